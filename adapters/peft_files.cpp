#include "adapters/peft_files.h"

#include <algorithm>
#include <map>
#include <unordered_map>

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

/// The layer names of a pattern, in PEFT's order: the first that fits a layer holds.
/// @errors unsupported: a key that only a regular expression engine could read.
Result<std::vector<std::pair<std::string, double>>> plain_patterns(const formats::PeftConfig& config) {
  std::vector<std::pair<std::string, double>> out;
  for (const auto& [key, alpha] : config.alpha_pattern) {
    std::string name = key;
    for (std::size_t at = name.find("\\."); at != std::string::npos; at = name.find("\\.", at)) name.erase(at, 1);
    if (name.find_first_of("\\^$*+?()[]{}|") != std::string::npos) {
      return Error{ErrorCode::unsupported,
                   "alpha_pattern: a key is a regular expression; write the layers' names, one key for each"};
    }
    out.emplace_back(std::move(name), alpha);
  }
  return out;
}

double alpha_of(const std::vector<std::pair<std::string, double>>& patterns, const std::string& path,
                double otherwise) {
  const auto found = std::ranges::find_if(patterns, [&](const auto& p) { return target_matches(p.first, path); });
  return found == patterns.end() ? otherwise : found->second;
}

}  // namespace

Result<formats::PeftAdapter> peft_of(const Adapter& adapter, const std::string& base_model_name) {
  const auto& entries = adapter.layout().lora;
  if (entries.empty()) return Error{ErrorCode::invalid_argument, "an adapter without sites has no file"};
  formats::PeftAdapter out;
  out.config.base_model_name_or_path = base_model_name;
  out.config.target_modules = adapter.target_modules();
  out.config.use_rslora = entries.front().rslora;
  std::vector<int> ranks;
  std::vector<double> alphas;
  for (const auto& entry : entries) {
    if (entry.rslora != out.config.use_rslora) {
      return Error{ErrorCode::unsupported, "PEFT cannot mix rslora and plain scaling"};
    }
    ranks.push_back(entry.rank);
    alphas.push_back(entry.alpha);
  }
  out.config.r = most_common(ranks);
  out.config.lora_alpha = most_common(alphas);
  for (const auto& entry : entries) {
    if (entry.rank != out.config.r) out.config.rank_pattern.emplace_back(entry.path, entry.rank);
    if (entry.alpha != out.config.lora_alpha) out.config.alpha_pattern.emplace_back(entry.path, entry.alpha);
    const auto values = adapter.values().subspan(static_cast<std::size_t>(entry.offset));
    const auto a = values.first(static_cast<std::size_t>(entry.a_size()));
    const auto b = values.subspan(a.size(), static_cast<std::size_t>(entry.b_size()));
    out.tensors.push_back(formats::peft_tensor(formats::peft_lora_name(entry.path, 'A'), {entry.rank, entry.in}, a));
    out.tensors.push_back(formats::peft_tensor(formats::peft_lora_name(entry.path, 'B'), {entry.out, entry.rank}, b));
  }
  return out;
}

Status save_peft(const std::string& directory, const Adapter& adapter, const std::string& base_model_name) {
  const auto file = peft_of(adapter, base_model_name);
  if (!file.ok()) return file.error().in(directory);
  return formats::write_peft_directory(directory, *file);
}

Status check_computed(const formats::PeftAdapter& file) {
  const auto refused = [](const std::string& what) {
    return Error{ErrorCode::unsupported, what + " is read and written, but not computed here"};
  };
  if (file.config.peft_type != "LORA") return refused("peft_type " + file.config.peft_type);
  for (const auto& tensor : file.tensors) {
    COVEY_ASSIGN(const formats::PeftPlace place, formats::peft_place(file.config, tensor.name));
    switch (place.role) {
      case formats::PeftRole::lora_embedding_a:
      case formats::PeftRole::lora_embedding_b:
        return refused("LoRA on the embedding " + place.module_path);
      case formats::PeftRole::bias:
        return refused("bias \"" + file.config.bias + "\" (" + tensor.name + ")");
      case formats::PeftRole::saved:
        return refused("modules_to_save (" + tensor.name + ")");
      default:
        break;
    }
  }
  return {};
}

Result<Adapter> attach_peft(const formats::PeftAdapter& file, const model::Model& model, const std::string& where) {
  if (const Status computed = check_computed(file); !computed.ok()) return computed.error().in(where);
  const auto patterns = plain_patterns(file.config);
  if (!patterns.ok()) return patterns.error().in(where);
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
                    .alpha = alpha_of(*patterns, site.path, file.config.lora_alpha),
                    .rslora = file.config.use_rslora};
    entries.push_back(std::move(entry));
    for (const formats::PeftTensor* half : {pair.a, pair.b}) {
      COVEY_ASSIGN(const std::vector<float> part, formats::to_f32(half->view()));
      values.insert(values.end(), part.begin(), part.end());
    }
    by_path.erase(found);
  }
  if (!by_path.empty()) {
    return Error{ErrorCode::invalid_argument, where + ": the model has no linear layer " + by_path.begin()->first +
                                                  "; the adapter belongs to another model"};
  }
  auto layout = AdapterLayout::of(std::move(entries));
  if (!layout.ok()) return layout.error().in(where);
  auto adapter = Adapter::create(model, *std::move(layout), std::move(values));
  if (!adapter.ok()) return adapter.error().in(where);
  return adapter;
}

Result<Adapter> load_peft(const std::string& directory, const model::Model& model) {
  COVEY_ASSIGN(const formats::PeftAdapter file, formats::read_peft_directory(directory));
  return attach_peft(file, model, directory);
}

}  // namespace covey::adapters
