#include "adapters/adapter.h"

#include <algorithm>
#include <functional>
#include <map>
#include <unordered_map>

#include "core/base/assert.h"
#include "core/train/flat_view.h"

namespace covey::adapters {

namespace {

std::vector<std::string> targets_of(const std::vector<model::LinearSite>& sites, const model::AdapterSpec& spec) {
  std::map<std::string, std::size_t> there;
  std::map<std::string, std::vector<std::string>> adapted;
  for (const auto& site : sites) ++there[site.leaf];
  for (const auto& lora : spec.lora) {
    const auto& site = sites[static_cast<std::size_t>(lora.site)];
    adapted[site.leaf].push_back(site.path);
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
  adapter.target_modules_ = targets_of(model.linear_sites(), adapter.spec_);
  adapter.task_ = model.config().task;
  adapter.layout_ = std::move(layout);
  adapter.values_ = std::move(values);
  return adapter;
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
  return out;
}

Status merge_into(model::Model& model, const Adapter& adapter) {
  std::unordered_map<std::string, model::NamedTensor> weights;
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
