#include "adapters/layout.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "adapters/layout_parts.h"
#include "core/base/assert.h"
#include "core/base/rng.h"

namespace covey::adapters {
namespace {

constexpr std::string_view kHeader = "covey-adapter 1";
constexpr std::size_t kPathMax = 256;
constexpr int kWidthMax = 1 << 20;

template <typename T>
const T* matching(const std::map<std::string, T>& pattern, std::string_view path) {
  const std::pair<const std::string, T>* best = nullptr;  // the longest, i.e. the most specific name
  for (const auto& entry : pattern) {
    if (target_matches(entry.first, path) && (best == nullptr || entry.first.size() > best->first.size()))
      best = &entry;
  }
  return best == nullptr ? nullptr : &best->second;
}

std::string shortest(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string joined_leaves(std::span<const model::LinearSite> sites) {
  std::set<std::string> leaves;
  for (const auto& site : sites) leaves.insert(site.leaf);
  std::string out;
  for (const auto& leaf : leaves) out += (out.empty() ? "" : ", ") + leaf;
  return out;
}

Error too_many_values() {
  return Error{ErrorCode::resource_exhausted,
               "adapter: more than " + std::to_string(kAdapterValuesMax) + " values; choose a lower rank or width"};
}

/// Places the LoRA entries one after another; checks what every layout must hold.
Status place_lora(AdapterLayout& layout) {
  layout.size = 0;
  std::set<std::string_view> paths;
  for (auto& entry : layout.lora) {
    if (entry.rank < 1 || entry.rank > kRankMax) {
      return Error{ErrorCode::invalid_argument,
                   "adapter: rank " + std::to_string(entry.rank) + " is not in [1, " + std::to_string(kRankMax) + "]"};
    }
    if (!std::isfinite(entry.alpha) || entry.alpha <= 0) {
      return Error{ErrorCode::invalid_argument, "adapter: alpha must be above 0"};
    }
    if (!paths.insert(entry.path).second) {
      return Error{ErrorCode::invalid_argument, "adapter: " + entry.path + " is there twice"};
    }
    entry.offset = layout.size;
    layout.size += entry.a_size() + entry.b_size();
    if (layout.size > kAdapterValuesMax) return too_many_values();
  }
  return {};
}

struct KindName {
  model::PartKind kind;
  std::string_view name;
};
constexpr std::array kKindNames = {KindName{model::PartKind::scale_in, "scale_in"},
                                   KindName{model::PartKind::scale_out, "scale_out"},
                                   KindName{model::PartKind::bias, "bias"},
                                   KindName{model::PartKind::prefix, "prefix"},
                                   KindName{model::PartKind::bottleneck, "bottleneck"},
                                   KindName{model::PartKind::block_bottleneck, "block_bottleneck"}};
struct ActivationName {
  kernels::Activation activation;
  std::string_view name;
};
constexpr std::array kActivationNames = {ActivationName{kernels::Activation::relu, "relu"},
                                         ActivationName{kernels::Activation::gelu, "gelu"},
                                         ActivationName{kernels::Activation::silu, "silu"}};

bool is_bottleneck(model::PartKind kind) {
  return kind == model::PartKind::bottleneck || kind == model::PartKind::block_bottleneck;
}
bool has_count(model::PartKind kind) {
  return is_bottleneck(kind) || kind == model::PartKind::prefix;
}

std::string_view name_of(model::PartKind kind) {
  return std::ranges::find(kKindNames, kind, &KindName::kind)->name;
}

/// The soft prompt, the head and the parts, behind the LoRA entries.
Status place_others(AdapterLayout& layout) {
  layout.prompt_offset = layout.size;
  if (layout.prompt_tokens < 0 || layout.prompt_tokens > kRankMax) {
    return Error{ErrorCode::invalid_argument, "adapter: a prompt of " + std::to_string(layout.prompt_tokens) +
                                                  " tokens is not within [1, " + std::to_string(kRankMax) + "]"};
  }
  layout.size += std::int64_t{layout.prompt_tokens} * layout.prompt_width;
  std::set<std::string_view> names;
  for (HeadEntry& entry : layout.head) {
    if (!names.insert(entry.name).second) {
      return Error{ErrorCode::invalid_argument, "adapter: " + entry.name + " is there twice"};
    }
    entry.offset = layout.size;
    layout.size += entry.count();
    if (layout.size > kAdapterValuesMax) return too_many_values();
  }
  std::set<std::pair<model::PartKind, std::string_view>> seen;
  for (PartEntry& part : layout.parts) {
    if (has_count(part.kind) && (part.count < 1 || part.count > kRankMax)) {
      return Error{ErrorCode::invalid_argument, "adapter: " + std::to_string(part.count) + " tokens or width of " +
                                                    part.name + " are not within [1, " + std::to_string(kRankMax) +
                                                    "]"};
    }
    if (!seen.insert({part.kind, part.name}).second) {
      return Error{ErrorCode::invalid_argument, "adapter: " + part.name + " is there twice"};
    }
    part.offset = layout.size;
    layout.size += part.size();
    if (layout.size > kAdapterValuesMax) return too_many_values();
  }
  if (layout.size == 0) return Error{ErrorCode::invalid_argument, "adapter: nothing is trained"};
  return {};
}

/// Splits at single spaces; the canonical form has no others.
std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  while (true) {
    const std::size_t space = line.find(' ');
    out.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return out;
    line.remove_prefix(space + 1);
  }
}

template <typename T>
bool read_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

bool plain_path(std::string_view path) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
  };
  return !path.empty() && path.size() <= kPathMax && std::all_of(path.begin(), path.end(), plain);
}

/// A matrix, or a bias.
bool read_head_entry(std::string_view line, HeadEntry& entry) {
  const auto part = words(line);
  if (part[0] != "head" || part.size() < 3 || part.size() > 4 || !plain_path(part[1])) return false;
  entry.name = part[1];
  for (const std::string_view text : std::span(part).subspan(2)) {
    std::int64_t size = 0;
    if (!read_number(text, size) || size < 1 || size > kWidthMax) return false;
    entry.shape.push_back(size);
  }
  return true;
}

bool read_prompt(std::string_view line, AdapterLayout& layout) {
  const auto part = words(line);
  return part.size() == 3 && part[0] == "prompt" && layout.prompt_tokens == 0 &&
         read_number(part[1], layout.prompt_tokens) && layout.prompt_tokens >= 1 && layout.prompt_tokens <= kRankMax &&
         read_number(part[2], layout.prompt_width) && layout.prompt_width >= 1 && layout.prompt_width <= kWidthMax;
}

bool read_part(std::string_view line, PartEntry& entry) {
  const auto part = words(line);
  const auto kind = std::ranges::find(kKindNames, part[0], &KindName::name);
  if (kind == kKindNames.end() || part.size() < 3 || !plain_path(part[1])) return false;
  entry.kind = kind->kind;
  entry.name = part[1];
  if (!read_number(part[2], entry.width) || entry.width < 1 || entry.width > kWidthMax) return false;
  const std::size_t size = is_bottleneck(entry.kind) ? 5 : has_count(entry.kind) ? 4 : 3;
  if (part.size() != size) return false;
  if (size > 3 && (!read_number(part[3], entry.count) || entry.count < 1 || entry.count > kRankMax)) return false;
  if (size < 5) return true;
  const auto named = std::ranges::find(kActivationNames, part[4], &ActivationName::name);
  if (named == kActivationNames.end()) return false;
  entry.activation = named->activation;
  return true;
}

bool read_entry(std::string_view line, LoraEntry& entry) {
  const auto part = words(line);
  if (part.size() != 7 || part[0] != "lora" || !plain_path(part[1])) return false;
  entry.path = part[1];
  if (!read_number(part[2], entry.in) || entry.in < 1 || entry.in > kWidthMax) return false;
  if (!read_number(part[3], entry.out) || entry.out < 1 || entry.out > kWidthMax) return false;
  if (!read_number(part[4], entry.rank) || !read_number(part[5], entry.alpha)) return false;
  if (part[6] != "plain" && part[6] != "rslora") return false;
  entry.rslora = part[6] == "rslora";
  return true;
}

}  // namespace

bool target_matches(std::string_view target, std::string_view path) {
  if (!path.ends_with(target)) return false;
  return path.size() == target.size() || path[path.size() - target.size() - 1] == '.';
}

float LoraEntry::scale() const {
  return static_cast<float>(alpha / (rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank)));
}

std::int64_t HeadEntry::count() const {
  std::int64_t out = 1;
  for (const std::int64_t size : shape) out *= size;
  return out;
}

std::string AdapterLayout::canonical() const {
  std::string out(kHeader);
  out += '\n';
  for (const auto& entry : lora) {
    out += "lora " + entry.path + " " + std::to_string(entry.in) + " " + std::to_string(entry.out) + " " +
           std::to_string(entry.rank) + " " + shortest(entry.alpha) + (entry.rslora ? " rslora\n" : " plain\n");
  }
  if (prompt_tokens > 0) {
    out += "prompt " + std::to_string(prompt_tokens) + " " + std::to_string(prompt_width) + "\n";
  }
  for (const auto& entry : head) {
    out += "head " + entry.name;
    for (const std::int64_t width : entry.shape) out += " " + std::to_string(width);
    out += '\n';
  }
  for (const auto& part : parts) {
    out += std::string(name_of(part.kind)) + " " + part.name + " " + std::to_string(part.width);
    if (has_count(part.kind)) out += " " + std::to_string(part.count);
    if (is_bottleneck(part.kind)) {
      out += " ";
      out += std::ranges::find(kActivationNames, part.activation, &ActivationName::activation)->name;
    }
    out += "\n";
  }
  return out;
}

Result<AdapterLayout> AdapterLayout::of(std::vector<LoraEntry> entries, std::vector<HeadEntry> head) {
  AdapterLayout layout;
  layout.lora = std::move(entries);
  layout.head = std::move(head);
  COVEY_TRY(layout.place());
  return layout;
}

Result<AdapterLayout> AdapterLayout::parse(std::string_view text) {
  const auto broken = [](const std::string& what) { return Error{ErrorCode::corrupt_data, "adapter layout: " + what}; };
  if (text.size() > kLayoutTextMax) return broken("longer than " + std::to_string(kLayoutTextMax) + " bytes");
  const std::string_view whole = text;
  AdapterLayout layout;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return broken("line " + std::to_string(number) + " has no end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (number == 1) {
      if (line != kHeader) return broken("unknown version");
      continue;
    }
    if (HeadEntry part; read_head_entry(line, part)) {
      layout.head.push_back(std::move(part));
      continue;
    }
    if (read_prompt(line, layout)) continue;
    if (PartEntry part; read_part(line, part)) {
      layout.parts.push_back(std::move(part));
      continue;
    }
    LoraEntry entry;
    if (!read_entry(line, entry)) return broken("line " + std::to_string(number) + " is no entry of an adapter");
    layout.lora.push_back(std::move(entry));
  }
  if (auto placed = layout.place(); !placed.ok()) return broken(placed.error().message);
  if (layout.canonical() != whole) return broken("not in canonical form");
  return layout;
}

Result<model::AdapterSpec> AdapterLayout::bind(std::span<const model::LinearSite> sites,
                                               std::span<const model::HeadParameter> of_model) const {
  std::unordered_map<std::string_view, int> index;
  for (std::size_t i = 0; i < sites.size(); ++i) index.emplace(sites[i].path, static_cast<int>(i));
  model::AdapterSpec spec;
  for (const auto& entry : lora) {
    const auto found = index.find(entry.path);
    if (found == index.end()) {
      return Error{ErrorCode::invalid_argument,
                   "adapter: the model has no linear layer " + entry.path + "; it belongs to another model"};
    }
    const auto& site = sites[static_cast<std::size_t>(found->second)];
    if (site.in != entry.in || site.out != entry.out) {
      return Error{ErrorCode::invalid_argument, "adapter: " + entry.path + " is " + std::to_string(entry.out) + "x" +
                                                    std::to_string(entry.in) + " in the adapter and " +
                                                    std::to_string(site.out) + "x" + std::to_string(site.in) +
                                                    " in the model"};
    }
    spec.lora.push_back({.site = found->second, .rank = entry.rank, .scale = entry.scale()});
  }
  if (head.empty()) return spec;
  const auto same = [](const HeadEntry& a, const model::HeadParameter& b) {
    return a.name == b.name && a.shape == b.shape;
  };
  if (!std::equal(head.begin(), head.end(), of_model.begin(), of_model.end(), same)) {
    return Error{ErrorCode::invalid_argument,
                 "adapter: its classification head is not the model's; it belongs to another model, or to another "
                 "number of classes"};
  }
  for (const auto& entry : head) spec.head_values += entry.count();
  return spec;
}

Status AdapterLayout::place() {
  COVEY_TRY(place_lora(*this));
  return place_others(*this);
}

Result<AdapterLayout> lora_layout(const model::Model& model, const LoraOptions& options) {
  return lora_layout(model.linear_sites(), options, model.head_parameters());
}

Result<AdapterLayout> lora_layout(std::span<const model::LinearSite> sites, const LoraOptions& options,
                                  std::span<const model::HeadParameter> head) {
  std::vector<bool> used(options.target_modules.size(), false);
  AdapterLayout layout;
  for (const auto& site : sites) {
    bool chosen = false;
    for (std::size_t i = 0; i < options.target_modules.size(); ++i) {
      const std::string& target = options.target_modules[i];
      const bool matches = target == "all-linear" ? site.layer >= 0 : target_matches(target, site.path);
      if (!matches) continue;
      used[i] = chosen = true;
    }
    if (!chosen) continue;
    const int* rank = matching(options.rank_pattern, site.path);
    const double* alpha = matching(options.alpha_pattern, site.path);
    layout.lora.push_back({.path = site.path,
                           .in = site.in,
                           .out = site.out,
                           .rank = rank != nullptr ? *rank : options.rank,
                           .alpha = alpha != nullptr ? *alpha : options.alpha,
                           .rslora = options.use_rslora});
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) {
      return Error{ErrorCode::invalid_argument, "target_modules: \"" + options.target_modules[i] +
                                                    "\" names no linear layer; there are " + joined_leaves(sites) +
                                                    ", and all-linear"};
    }
  }
  if (layout.lora.empty()) return Error{ErrorCode::invalid_argument, "target_modules: must name at least one layer"};
  if (options.train_head && head.empty()) {
    return Error{ErrorCode::invalid_argument, "train_head: the model has no classification head; leave it out"};
  }
  for (const auto& parameter : head) {
    if (options.train_head) layout.head.push_back({.name = parameter.name, .shape = parameter.shape});
  }
  COVEY_TRY(layout.place());
  return layout;
}

std::vector<std::string> default_targets(std::span<const model::LinearSite> sites) {
  const std::vector<std::vector<std::string>> usual = {{"q_proj", "v_proj"}, {"query", "value"},  {"q", "v"},
                                                       {"q_lin", "v_lin"},   {"query_key_value"}, {"c_attn"},
                                                       {"qkv_proj"}};
  const auto there = [&](const std::string& leaf) {
    return std::ranges::find(sites, leaf, &model::LinearSite::leaf) != sites.end();
  };
  for (const auto& names : usual) {
    if (std::ranges::all_of(names, there)) return names;
  }
  return {"all-linear"};
}

std::vector<float> initial_values(const AdapterLayout& layout, std::uint64_t seed) {
  std::vector<float> values(static_cast<std::size_t>(layout.size), 0.0F);
  fill_parts(layout, seed, values);
  for (const auto& entry : layout.lora) {
    const CounterRng random(seed, stream_of(entry.path));
    const double bound = 1 / std::sqrt(static_cast<double>(entry.in));
    float* const a = values.data() + entry.offset;
    for (std::int64_t i = 0; i < entry.a_size(); ++i) {
      // The middle of one of 2^24 equal cells of (-1, 1): exact in double, never at a bound.
      const double unit = (static_cast<double>(random.bits(static_cast<std::uint64_t>(i)) >> 8) + 0.5) * 0x1p-23 - 1;
      a[i] = static_cast<float>(unit * bound);
    }
  }
  return values;
}

std::vector<float> with_model_head(const AdapterLayout& layout, const model::Model& model, std::vector<float> values) {
  if (layout.head.empty()) return values;
  for (const auto& parameter : model.head_parameters()) {
    const auto to = static_cast<std::size_t>(layout.head.front().offset + parameter.offset);
    COVEY_ASSERT(to + parameter.values.size() <= values.size());
    std::ranges::copy(parameter.values, values.begin() + static_cast<std::ptrdiff_t>(to));
  }
  return values;
}

}  // namespace covey::adapters
