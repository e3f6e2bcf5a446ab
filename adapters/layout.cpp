#include "adapters/layout.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

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

Error too_many() {
  return {ErrorCode::resource_exhausted,
          "adapter: more than " + std::to_string(kAdapterValuesMax) + " values; choose a lower rank"};
}

/// Places the entries one after another; checks what every layout must hold.
Status place(AdapterLayout& layout) {
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
    if (layout.size > kAdapterValuesMax) return too_many();
  }
  for (auto& entry : layout.head) {
    if (!paths.insert(entry.name).second) {
      return Error{ErrorCode::invalid_argument, "adapter: " + entry.name + " is there twice"};
    }
    entry.offset = layout.size;
    layout.size += entry.count();
    if (layout.size > kAdapterValuesMax) return too_many();
  }
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
  for (const auto& entry : head) {
    out += "head " + entry.name;
    for (const std::int64_t width : entry.shape) out += " " + std::to_string(width);
    out += '\n';
  }
  return out;
}

Result<AdapterLayout> AdapterLayout::of(std::vector<LoraEntry> entries, std::vector<HeadEntry> head) {
  AdapterLayout layout;
  layout.lora = std::move(entries);
  layout.head = std::move(head);
  COVEY_TRY(place(layout));
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
    LoraEntry entry;
    if (!read_entry(line, entry)) return broken("line " + std::to_string(number) + " is not a LoRA or head entry");
    layout.lora.push_back(std::move(entry));
  }
  if (auto placed = place(layout); !placed.ok()) return broken(placed.error().message);
  if (layout.lora.empty() || layout.canonical() != whole) return broken("not in canonical form");
  return layout;
}

Result<model::AdapterSpec> AdapterLayout::bind(const model::Model& model) const {
  return bind(model.linear_sites(), model.head_parameters());
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
  COVEY_TRY(place(layout));
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
  for (const auto& entry : layout.lora) {
    std::uint64_t stream = 0xcbf29ce484222325ULL;  // FNV-1a of the path: a site's own stream
    for (const char c : entry.path) stream = (stream ^ static_cast<std::uint8_t>(c)) * 0x100000001b3ULL;
    const CounterRng random(seed, stream);
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
