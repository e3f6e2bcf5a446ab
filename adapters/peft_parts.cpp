// PEFT's other adapters that our models compute: IA3, PREFIX_TUNING, PROMPT_TUNING.
#include <algorithm>
#include <unordered_map>

#include "adapters/peft_files.h"

namespace covey::adapters {
namespace {

using model::PartKind;

constexpr const char* kPrompt = "prompt_embeddings";

std::span<const float> values_of(const Adapter& adapter, std::int64_t offset, std::int64_t size) {
  return adapter.values().subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
}

void ia3_to_peft(const Adapter& adapter, formats::PeftAdapter& out) {
  out.config.peft_type = "IA3";
  out.config.target_modules = adapter.target_modules();
  out.config.feedforward_modules = adapter.feedforward_modules();
  for (const PartEntry& part : adapter.layout().parts) {
    const bool input = part.kind == PartKind::scale_in;
    const std::vector<std::int64_t> shape =
        input ? std::vector<std::int64_t>{1, part.width} : std::vector<std::int64_t>{part.width, 1};
    out.tensors.push_back(
        formats::peft_tensor(formats::peft_ia3_name(part.name), shape, values_of(adapter, part.offset, part.size())));
  }
  head_to_peft(adapter, out);
}

/// A row of PEFT's tensor is one position: of each layer its key, then its value.
Status prefix_to_peft(const Adapter& adapter, formats::PeftAdapter& out) {
  const auto& parts = adapter.layout().parts;
  const PartEntry& first = parts.front();
  const bool even = std::ranges::all_of(parts, [&](const auto& p) { return p.width == first.width; });
  if (!even || adapter.shape().two_stacks) {
    return Error{ErrorCode::unsupported,
                 "PEFT's prefix has one width for all layers of one stack; save this one in the flat form"};
  }
  const auto W = static_cast<std::size_t>(first.width);
  const auto tokens = static_cast<std::size_t>(first.count);
  std::vector<float> rows;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (const PartEntry& part : parts) {
      const auto values = values_of(adapter, part.offset, part.size());
      for (const std::size_t half : {std::size_t{0}, tokens}) {
        const auto row = values.subspan((half + t) * W, W);
        rows.insert(rows.end(), row.begin(), row.end());
      }
    }
  }
  out.config.peft_type = "PREFIX_TUNING";
  out.config.num_virtual_tokens = first.count;
  out.config.token_dim = first.width;
  out.config.num_layers = static_cast<int>(parts.size());
  out.config.num_attention_heads = adapter.shape().kv_heads;
  const auto columns = static_cast<std::int64_t>(2 * W * parts.size());
  out.tensors.push_back(formats::peft_tensor(kPrompt, {first.count, columns}, rows));
  return {};
}

void prompt_to_peft(const Adapter& adapter, formats::PeftAdapter& out) {
  const AdapterLayout& layout = adapter.layout();
  out.config.peft_type = "PROMPT_TUNING";
  out.config.num_virtual_tokens = layout.prompt_tokens;
  out.config.token_dim = layout.prompt_width;
  out.config.num_layers = adapter.shape().layers;
  out.config.num_attention_heads = adapter.shape().heads;
  out.tensors.push_back(formats::peft_tensor(kPrompt, {layout.prompt_tokens, layout.prompt_width},
                                             values_of(adapter, layout.prompt_offset, layout.size)));
}

Status attach_ia3(const formats::PeftAdapter& file, const model::Model& model, AdapterLayout& layout,
                  std::vector<float>& values) {
  std::unordered_map<std::string, const formats::PeftTensor*> by_path;
  for (const auto& tensor : file.tensors) {
    COVEY_ASSIGN(const formats::PeftPlace place, formats::peft_place(file.config, tensor.name));
    if (place.role == formats::PeftRole::saved) continue;
    by_path.emplace(place.module_path, &tensor);
  }
  COVEY_ASSIGN(layout.head, attach_head(file, model, values));
  for (const auto& site : model.linear_sites()) {  // the flat order is the model's
    const auto found = by_path.find(site.path);
    if (found == by_path.end()) continue;
    const bool input = found->second->shape[0] == 1 && found->second->shape[1] > 1;
    layout.parts.push_back({.kind = input ? PartKind::scale_in : PartKind::scale_out,
                            .name = site.path,
                            .width = static_cast<int>(found->second->shape[input ? 1 : 0])});
    COVEY_ASSIGN(const std::vector<float> part, formats::to_f32(found->second->view()));
    values.insert(values.end(), part.begin(), part.end());
    by_path.erase(found);
  }
  if (by_path.empty()) return {};
  return Error{ErrorCode::invalid_argument,
               "the model has no linear layer " + by_path.begin()->first + "; the adapter belongs to another model"};
}

Status attach_prefix(const formats::PeftAdapter& file, const model::Model& model, AdapterLayout& layout,
                     std::vector<float>& values) {
  const auto& attentions = model.attentions();
  if (attentions.empty() || model.config().two_stacks()) {
    return Error{ErrorCode::unsupported, "PREFIX_TUNING is not for a " + model.config().family + " model here"};
  }
  const auto& shape = file.tensors.front().shape;
  std::int64_t columns = 0;
  for (const auto& attention : attentions) columns += 2 * std::int64_t{attention.width};
  if (shape[1] != columns) {
    return Error{ErrorCode::invalid_argument, "prompt_embeddings is " + std::to_string(shape[1]) +
                                                  " wide, the model's keys and values together " +
                                                  std::to_string(columns) + "; the adapter belongs to another model"};
  }
  COVEY_ASSIGN(const std::vector<float> rows, formats::to_f32(file.tensors.front().view()));
  std::size_t column = 0;
  for (const auto& attention : attentions) {
    layout.parts.push_back({.kind = PartKind::prefix,
                            .name = attention.name,
                            .width = attention.width,
                            .count = static_cast<int>(shape[0])});
    const auto W = static_cast<std::size_t>(attention.width);
    for (int half = 0; half < 2; ++half, column += W) {
      for (std::size_t t = 0; t < static_cast<std::size_t>(shape[0]); ++t) {
        const auto row = std::span(rows).subspan(t * static_cast<std::size_t>(columns) + column, W);
        values.insert(values.end(), row.begin(), row.end());
      }
    }
  }
  return {};
}

Status attach_prompt(const formats::PeftAdapter& file, const model::Model& model, AdapterLayout& layout,
                     std::vector<float>& values) {
  if (file.config.num_transformer_submodules != 1 || model.config().task != model::Task::causal_lm) {
    return Error{ErrorCode::unsupported, "PROMPT_TUNING is for causal language models here"};
  }
  const auto& tensor = file.tensors.front();
  layout.prompt_tokens = static_cast<int>(tensor.shape[0]);
  layout.prompt_width = static_cast<int>(tensor.shape[1]);
  COVEY_ASSIGN(values, formats::to_f32(tensor.view()));
  return {};
}

}  // namespace

Status parts_to_peft(const Adapter& adapter, formats::PeftAdapter& out) {
  const AdapterLayout& layout = adapter.layout();
  const auto all = [&](auto is) { return !layout.parts.empty() && std::ranges::all_of(layout.parts, is); };
  const bool alone = layout.lora.empty();
  if (alone && layout.parts.empty() && layout.prompt_tokens > 0 && layout.head.empty()) {
    prompt_to_peft(adapter, out);
    return {};
  }
  if (alone && layout.prompt_tokens == 0) {
    if (all([](const auto& p) { return p.kind == PartKind::scale_in || p.kind == PartKind::scale_out; })) {
      ia3_to_peft(adapter, out);
      return {};
    }
    const bool prefix = all([](const auto& p) { return p.kind == PartKind::prefix; });
    if (prefix && layout.head.empty()) return prefix_to_peft(adapter, out);
  }
  return Error{ErrorCode::unsupported,
               "PEFT has no form for biases, bottlenecks, a prefix with a head, or several adapters together"};
}

Result<Adapter> attach_parts(const formats::PeftAdapter& file, const model::Model& model) {
  AdapterLayout layout;
  std::vector<float> values;
  const std::string& type = file.config.peft_type;
  COVEY_TRY(type == "IA3"             ? attach_ia3(file, model, layout, values)
            : type == "PREFIX_TUNING" ? attach_prefix(file, model, layout, values)
                                      : attach_prompt(file, model, layout, values));
  COVEY_TRY(layout.place());
  return Adapter::create(model, std::move(layout), std::move(values));
}

}  // namespace covey::adapters
