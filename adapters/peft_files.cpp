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

/// PEFT's name for what the model is for; it has none for masked language models, which is null in the file.
std::string task_type_of(model::Task task) {
  switch (task) {
    case model::Task::classification:
      return "SEQ_CLS";
    case model::Task::seq2seq:
      return "SEQ_2_SEQ_LM";
    case model::Task::masked_lm:
      return "";
    default:
      return "CAUSAL_LM";
  }
}

std::string saved_name(const std::string& parameter) {
  return "base_model.model." + parameter;
}

}  // namespace

Result<std::vector<HeadEntry>> attach_head(const formats::PeftAdapter& file, const model::Model& model,
                                           std::vector<float>& values) {
  std::map<std::string, const formats::PeftTensor*> saved;
  for (const auto& tensor : file.tensors) {
    COVEY_ASSIGN(const formats::PeftPlace place, formats::peft_place(file.config, tensor.name));
    if (place.role == formats::PeftRole::saved) saved.emplace(tensor.name, &tensor);
  }
  std::vector<HeadEntry> out;
  if (saved.empty()) return out;
  for (const auto& parameter : model.head_parameters()) {
    const auto found = saved.find(saved_name(parameter.name));
    if (found == saved.end() || found->second->shape != parameter.shape) {
      return Error{ErrorCode::invalid_argument,
                   (found == saved.end() ? "modules_to_save lacks the head's "
                                         : "the model's head has another shape than the adapter's ") +
                       parameter.name + "; the adapter belongs to another model"};
    }
    COVEY_ASSIGN(const std::vector<float> part, formats::to_f32(found->second->view()));
    values.insert(values.end(), part.begin(), part.end());
    out.push_back({.name = parameter.name, .shape = parameter.shape});
    saved.erase(found);
  }
  if (saved.empty()) return out;
  return Error{ErrorCode::unsupported, "modules_to_save (" + saved.begin()->first +
                                           ") is read and written, but only a classifier's head is computed here"};
}

void head_to_peft(const Adapter& adapter, formats::PeftAdapter& out) {
  for (const auto& entry : adapter.layout().head) {
    const std::string module = entry.name.substr(0, entry.name.find('.'));
    auto& modules = out.config.modules_to_save;
    if (std::ranges::find(modules, module) == modules.end()) modules.push_back(module);
    const auto values =
        adapter.values().subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.count()));
    out.tensors.push_back(formats::peft_tensor(saved_name(entry.name), entry.shape, values));
  }
}

Result<formats::PeftAdapter> peft_of(const Adapter& adapter, const std::string& base_model_name) {
  const auto& entries = adapter.layout().lora;
  if (adapter.layout().size == 0) return Error{ErrorCode::invalid_argument, "an adapter without sites has no file"};
  formats::PeftAdapter out;
  out.config.task_type = task_type_of(adapter.task());
  out.config.base_model_name_or_path = base_model_name;
  if (entries.empty() || !adapter.layout().parts.empty() || adapter.layout().prompt_tokens > 0) {
    COVEY_TRY(parts_to_peft(adapter, out));
    return out;
  }
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
  head_to_peft(adapter, out);
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
  for (const auto& tensor : file.tensors) {
    COVEY_ASSIGN(const formats::PeftPlace place, formats::peft_place(file.config, tensor.name));
    switch (place.role) {
      case formats::PeftRole::lora_embedding_a:
      case formats::PeftRole::lora_embedding_b:
        return refused("LoRA on the embedding " + place.module_path);
      case formats::PeftRole::bias:
        return refused("bias \"" + file.config.bias + "\" (" + tensor.name + ")");
      case formats::PeftRole::saved:
        if (file.config.task_type == "SEQ_CLS") break;  // a classifier's head: attaching it asks the model
        return refused("modules_to_save (" + tensor.name + ")");
      default:
        break;
    }
  }
  return {};
}

Result<Adapter> attach_peft(const formats::PeftAdapter& file, const model::Model& model, const std::string& where) {
  if (const Status computed = check_computed(file); !computed.ok()) return computed.error().in(where);
  if (file.config.peft_type != "LORA") {
    auto adapter = attach_parts(file, model);
    if (!adapter.ok()) return adapter.error().in(where);
    return adapter;
  }
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
  auto head = attach_head(file, model, values);
  if (!head.ok()) return head.error().in(where);
  auto layout = AdapterLayout::of(std::move(entries), *std::move(head));
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
