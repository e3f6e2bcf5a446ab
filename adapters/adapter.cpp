#include "adapters/adapter.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include "core/base/assert.h"
#include "core/train/flat_view.h"

namespace covey::adapters {

namespace {

/// PEFT's names for the sites that `chosen` says.
template <typename Chosen>
std::vector<std::string> targets_of(const std::vector<model::LinearSite>& sites, Chosen chosen) {
  std::map<std::string, std::size_t> there;
  std::map<std::string, std::vector<std::string>> adapted;
  for (const auto& site : sites) {
    ++there[site.leaf];
    if (chosen(site.path)) adapted[site.leaf].push_back(site.path);
  }
  std::vector<std::string> out;
  for (const auto& [leaf, paths] : adapted) {
    if (paths.size() == there[leaf]) {
      out.push_back(leaf);
    } else {
      out.insert(out.end(), paths.begin(), paths.end());
    }
  }
  return out;
}

}  // namespace

Result<Adapter> Adapter::create(const model::Model& model, AdapterLayout layout, std::vector<float> values) {
  if (static_cast<std::int64_t>(values.size()) != layout.size) {
    return Error{ErrorCode::invalid_argument, "adapter: the layout has " + std::to_string(layout.size) +
                                                  " values, got " + std::to_string(values.size())};
  }
  Adapter adapter;
  COVEY_ASSIGN(adapter.spec_, layout.bind(model));
  adapter.task_ = model.config().task;
  std::set<std::string_view> changed;
  std::set<std::string_view> inputs;
  for (const auto& entry : layout.lora) changed.insert(entry.path);
  for (const auto& part : layout.parts) {
    const bool input = part.kind == model::PartKind::scale_in;
    if (input || part.kind == model::PartKind::scale_out) changed.insert(part.name);
    if (input) inputs.insert(part.name);
  }
  const auto& sites = model.linear_sites();
  adapter.target_modules_ = targets_of(sites, [&](const std::string& path) { return changed.contains(path); });
  adapter.feedforward_modules_ = targets_of(sites, [&](const std::string& path) { return inputs.contains(path); });
  const auto& config = model.config();
  adapter.shape_ = {config.layers, config.heads, config.kv_heads, config.two_stacks()};
  adapter.layout_ = std::move(layout);
  adapter.values_ = std::move(values);
  return adapter;
}

Result<Adapter> Adapter::create_fresh(const model::Model& model, const AdapterOptions& options, std::uint64_t seed) {
  COVEY_ASSIGN(AdapterLayout layout, adapter_layout(model, options));
  COVEY_ASSIGN(std::vector<float> values, first_values(layout, model, seed));
  return create(model, std::move(layout), std::move(values));
}

Result<Adapter> Adapter::create_lora(const model::Model& model, const LoraOptions& options, std::uint64_t seed) {
  COVEY_ASSIGN(AdapterLayout layout, lora_layout(model, options));
  std::vector<float> values = with_model_head(layout, model, initial_values(layout, seed));
  return create(model, std::move(layout), std::move(values));
}

model::AdapterView Adapter::view() const {
  model::AdapterView out;
  for (const auto& entry : layout_.lora) {
    const auto flat = std::span<const float>(values_).subspan(static_cast<std::size_t>(entry.offset));
    const auto a = static_cast<std::size_t>(entry.a_size());
    out.lora.push_back({flat.first(a), flat.subspan(a, static_cast<std::size_t>(entry.b_size()))});
  }
  if (!layout_.head.empty()) {
    out.head = std::span<const float>(values_).subspan(static_cast<std::size_t>(layout_.head.front().offset));
  }
  const auto part_of = [&](std::int64_t offset, std::int64_t size) {
    return std::span<const float>(values_).subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  };
  out.prompt = part_of(layout_.prompt_offset, std::int64_t{layout_.prompt_tokens} * layout_.prompt_width);
  for (const auto& part : layout_.parts) out.parts.push_back(part_of(part.offset, part.size()));
  return out;
}

namespace {

using Weights = std::unordered_map<std::string, model::NamedTensor>;

Status check_merges(const Adapter& adapter) {
  const auto refused = [](const std::string& what) {
    return Error{ErrorCode::unsupported,
                 "merge: " + what + " is no change of weights; keep the adapter beside its model"};
  };
  if (adapter.layout().prompt_tokens > 0) return refused("a soft prompt");
  for (const auto& part : adapter.layout().parts) {
    if (part.kind == model::PartKind::prefix) return refused("a key/value prefix");
    if (part.count > 0) return refused("a bottleneck");
  }
  return {};
}

/// A scale or a bias's change; the layout is bound, so its place is there, and the matrix its own.
Status merge_part(const Weights& weights, bool in_out, const PartEntry& part, std::span<const float> values) {
  if (part.kind == model::PartKind::bias) {
    const auto found = weights.find(part.name);
    if (found == weights.end() || found->second.values.size() != values.size()) {
      return Error{ErrorCode::unsupported, "merge: " + part.name + " is not one of the model's tensors"};
    }
    std::transform(values.begin(), values.end(), found->second.values.begin(), found->second.values.begin(),
                   std::plus<>());
    return {};
  }
  const auto found = weights.find(part.name + ".weight");
  if (found == weights.end() || found->second.shape.size() != 2) {
    return Error{ErrorCode::unsupported, "merge: " + part.name + " has no weight of its own"};
  }
  const auto& [name, shape, matrix] = found->second;
  const bool input = part.kind == model::PartKind::scale_in;
  const auto columns = static_cast<std::size_t>(shape[1]);
  const bool by_column = input != in_out;
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] *= values[by_column ? i % columns : i / columns];
  const auto bias = weights.find(part.name + ".bias");
  if (input || bias == weights.end()) return {};
  std::transform(values.begin(), values.end(), bias->second.values.begin(), bias->second.values.begin(),
                 std::multiplies<>());
  return {};
}

}  // namespace

Status merge_into(model::Model& model, const Adapter& adapter) {
  COVEY_TRY(check_merges(adapter));
  Weights weights;
  for (const auto& tensor : model.parameters()) weights.emplace(tensor.name, tensor);
  const bool in_out = model.config().linear_in_out;  // as GPT-2's Conv1D
  for (const auto& entry : adapter.layout().lora) {
    const auto found = weights.find(entry.path + ".weight");
    const std::vector<std::int64_t> shape =
        in_out ? std::vector<std::int64_t>{entry.in, entry.out} : std::vector<std::int64_t>{entry.out, entry.in};
    if (found == weights.end() || found->second.shape != shape) {
      return Error{
          ErrorCode::unsupported,
          "merge: " + entry.path + " has no weight of its own and of its shape (it is shared with another layer)"};
    }
    const float* const a = adapter.values().data() + entry.offset;
    const float* const b = a + entry.a_size();
    const float scale = entry.scale();
    float* const w = found->second.values.data();
    std::vector<float> row(static_cast<std::size_t>(entry.in));
    for (std::int64_t o = 0; o < entry.out; ++o) {
      std::fill(row.begin(), row.end(), 0.0F);
      for (std::int64_t r = 0; r < entry.rank; ++r) {
        const float factor = b[o * entry.rank + r];
        const float* const line = a + r * entry.in;
        for (std::size_t i = 0; i < row.size(); ++i) row[i] += factor * line[i];
      }
      const auto first = static_cast<std::size_t>(in_out ? o : o * entry.in);
      const auto step = static_cast<std::size_t>(in_out ? entry.out : 1);
      for (std::size_t i = 0; i < row.size(); ++i) w[first + i * step] += scale * row[i];
    }
  }
  for (const auto& entry : adapter.layout().head) {  // bound, so the model has it in this shape
    const auto from =
        adapter.values().subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.count()));
    std::ranges::copy(from, weights.at(entry.name).values.begin());
  }
  // What is scaled is the layer with its LoRA and its bias's change.
  const model::AdapterView view = adapter.view();
  for (const bool biases : {true, false}) {
    for (std::size_t i = 0; i < view.parts.size(); ++i) {
      const PartEntry& part = adapter.layout().parts[i];
      if ((part.kind == model::PartKind::bias) == biases) {
        COVEY_TRY(merge_part(weights, in_out, part, view.parts[i]));
      }
    }
  }
  return {};
}

std::vector<float> delta_of(std::span<const float> trained, std::span<const float> initial) {
  COVEY_ASSERT(trained.size() == initial.size());
  std::vector<float> out(trained.size());
  std::transform(trained.begin(), trained.end(), initial.begin(), out.begin(), std::minus<>());
  return out;
}

std::vector<float> contribution(const AdapterLayout& layout, std::span<const float> delta) {
  COVEY_ASSERT(static_cast<std::int64_t>(delta.size()) == layout.size);
  static_cast<void>(layout);
  return {delta.begin(), delta.end()};
}

std::vector<float> recover(const AdapterLayout& layout, std::span<const double> sum, double weight) {
  COVEY_ASSERT(static_cast<std::int64_t>(sum.size()) == layout.size && weight > 0);
  static_cast<void>(layout);
  std::vector<float> out(sum.size());
  std::transform(sum.begin(), sum.end(), out.begin(), [&](double x) { return static_cast<float>(x / weight); });
  return out;
}

}  // namespace covey::adapters
