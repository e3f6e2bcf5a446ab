// loralib's state dicts as PEFT adapters.
#include <algorithm>
#include <map>
#include <set>

#include "core/formats/peft.h"

namespace covey::formats {
namespace {

/// "a.b" of "a.b.c"; all of a name without a dot.
std::string parent(std::string_view name) {
  return std::string(name.substr(0, std::min(name.rfind('.'), name.size())));
}
std::string leaf(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return std::string(dot == std::string_view::npos ? path : path.substr(dot + 1));
}
std::string root(std::string_view path) {
  return std::string(path.substr(0, path.find('.')));
}

PeftTensor copy(const TensorView& tensor, std::string name) {
  return {.name = std::move(name),
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .bytes = Bytes(tensor.bytes.begin(), tensor.bytes.end())};
}

/// The ranks of all pairs: the commonest as r, the others by their whole path.
void set_ranks(const std::vector<PeftLoraPair>& pairs, PeftConfig& config) {
  std::map<int, int> counts;
  for (const auto& pair : pairs) ++counts[static_cast<int>(pair.a->shape[0])];
  config.r = std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; })->first;
  for (const auto& pair : pairs) {
    const int rank = static_cast<int>(pair.a->shape[0]);
    if (rank != config.r) config.rank_pattern.emplace_back(pair.module_path, rank);
  }
}

}  // namespace

Result<PeftAdapter> peft_from_state_dict(std::span<const TensorView> tensors, const StateDictOptions& options,
                                         const std::string& where) {
  if (!(options.alpha > 0)) {
    return Error{ErrorCode::invalid_argument, where + ": says no alpha; give the one it was trained with (--alpha)"};
  }
  PeftAdapter out;
  out.config.lora_alpha = options.alpha;
  out.config.task_type = options.task_type;
  out.config.base_model_name_or_path = options.base_model_name_or_path;
  std::set<std::string> targets, adapted_roots, saved;
  std::vector<const TensorView*> others;
  for (const TensorView& tensor : tensors) {
    const std::string module = parent(tensor.name);
    const std::string last = leaf(tensor.name);
    if (last == "lora_A" || last == "lora_B") {
      out.tensors.push_back(copy(tensor, peft_lora_name(module, last.back())));
      targets.insert(leaf(module));
      adapted_roots.insert(root(module));
    } else {
      others.push_back(&tensor);
    }
  }
  if (targets.empty()) return Error{ErrorCode::not_found, where + ": holds no tensor <module>.lora_A"};
  for (const TensorView* tensor : others) {
    // A whole branch without LoRA (a classifier) is saved as one module, as PEFT would; else the one layer.
    const std::string branch = root(tensor->name);
    saved.insert(adapted_roots.contains(branch) ? parent(tensor->name) : branch);
    out.tensors.push_back(copy(*tensor, "base_model.model." + tensor->name));
  }
  out.config.target_modules = std::vector<std::string>(targets.begin(), targets.end());
  out.config.modules_to_save.assign(saved.begin(), saved.end());
  std::ranges::sort(out.tensors, {}, &PeftTensor::name);
  if (const Status checked = check_peft_adapter(out); !checked.ok()) return checked.error().in(where);
  COVEY_ASSIGN(const auto pairs, peft_lora_pairs(out));
  set_ranks(pairs, out.config);
  return out;
}

}  // namespace covey::formats
