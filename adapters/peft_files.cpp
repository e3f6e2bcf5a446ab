#include <algorithm>
#include <map>
#include <unordered_map>

#include "adapters/adapter.h"
#include "core/formats/peft.h"

namespace covey::adapters {
namespace {

template <typename T>
T most_common(const std::vector<T>& values) {
  std::map<T, std::size_t> counts;
  for (const T& value : values) ++counts[value];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

double alpha_of(const formats::PeftConfig& config, const std::string& path) {
  const std::pair<const std::string, double>* best = nullptr;
  for (const auto& entry : config.alpha_pattern) {
    if (target_matches(entry.first, path) && (best == nullptr || entry.first.size() > best->first.size())) {
      best = &entry;
    }
  }
  return best == nullptr ? config.lora_alpha : best->second;
}

}  // namespace

Status save_peft(const std::string& directory, const Adapter& adapter, const std::string& base_model_name) {
  const auto& entries = adapter.layout().lora;
  if (entries.empty()) return Error{ErrorCode::invalid_argument, directory + ": an adapter without sites has no file"};
  formats::PeftAdapter out;
  out.config.base_model_name_or_path = base_model_name;
  out.config.target_modules = adapter.target_modules();
  out.config.use_rslora = entries.front().rslora;
  std::vector<int> ranks;
  std::vector<double> alphas;
  for (const auto& entry : entries) {
    if (entry.rslora != out.config.use_rslora) {
      return Error{ErrorCode::unsupported, directory + ": PEFT cannot mix rslora and plain scaling"};
    }
    ranks.push_back(entry.rank);
    alphas.push_back(entry.alpha);
  }
  out.config.r = most_common(ranks);
  out.config.lora_alpha = most_common(alphas);
  for (const auto& entry : entries) {
    if (entry.rank != out.config.r) out.config.rank_pattern[entry.path] = entry.rank;
    if (entry.alpha != out.config.lora_alpha) out.config.alpha_pattern[entry.path] = entry.alpha;
    const auto values = adapter.values().subspan(static_cast<std::size_t>(entry.offset));
    const auto a = values.first(static_cast<std::size_t>(entry.a_size()));
    const auto b = values.subspan(a.size(), static_cast<std::size_t>(entry.b_size()));
    out.tensors.push_back(
        {formats::peft_lora_name(entry.path, 'A'), {entry.rank, entry.in}, std::vector<float>(a.begin(), a.end())});
    out.tensors.push_back(
        {formats::peft_lora_name(entry.path, 'B'), {entry.out, entry.rank}, std::vector<float>(b.begin(), b.end())});
  }
  return formats::write_peft_directory(directory, out);
}

Result<Adapter> load_peft(const std::string& directory, const model::Model& model) {
  COVEY_ASSIGN(const formats::PeftAdapter file, formats::read_peft_directory(directory));
  if (file.config.peft_type != "LORA") {
    return Error{ErrorCode::unsupported, directory + ": peft_type " + file.config.peft_type + " is not supported yet"};
  }
  COVEY_ASSIGN(const auto pairs, formats::peft_lora_pairs(file));
  std::unordered_map<std::string, const formats::PeftLoraPair*> by_path;
  for (const auto& pair : pairs) by_path.emplace(pair.module_path, &pair);

  std::vector<LoraEntry> entries;
  std::vector<float> values;
  for (const auto& site : model.linear_sites()) {  // the flat order is the model's
    const auto found = by_path.find(site.path);
    if (found == by_path.end()) continue;
    const auto& pair = *found->second;
    LoraEntry entry{.path = site.path,
                    .in = static_cast<int>(pair.a->shape[1]),
                    .out = static_cast<int>(pair.b->shape[0]),
                    .rank = static_cast<int>(pair.a->shape[0]),
                    .alpha = alpha_of(file.config, site.path),
                    .rslora = file.config.use_rslora};
    entries.push_back(std::move(entry));
    values.insert(values.end(), pair.a->values.begin(), pair.a->values.end());
    values.insert(values.end(), pair.b->values.begin(), pair.b->values.end());
    by_path.erase(found);
  }
  if (!by_path.empty()) {
    return Error{ErrorCode::invalid_argument, directory + ": the model has no linear layer " + by_path.begin()->first +
                                                  "; the adapter belongs to another model"};
  }
  auto layout = AdapterLayout::of(std::move(entries));
  if (!layout.ok()) return layout.error().in(directory);
  auto adapter = Adapter::create(model, *std::move(layout), std::move(values));
  if (!adapter.ok()) return adapter.error().in(directory);
  return adapter;
}

}  // namespace covey::adapters
