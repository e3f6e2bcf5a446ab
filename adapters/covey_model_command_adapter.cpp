// adapter info | export | import: what an adapter is, and its forms into one another.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/adapter_file.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/peft_files.h"
#include "core/base/log.h"

namespace covey::adapters {
namespace {

/// Some forms need the model, most only profit from it.
struct Input {
  std::shared_ptr<const model::Model> model;  ///< null: none was named
  formats::PeftAdapter file;
  bool says_alpha = true;  ///< false: torch's state dict without --alpha
};

/// The adapter's file or folder; of a folder in our own form, the file in it.
std::string adapter_path(const AdapterFileOptions& options) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path own = fs::path(options.files.back()) / kFlatName;
  return fs::exists(own, ignored) ? own.string() : options.files.back();
}

Result<Input> open_input(const AdapterFileOptions& options) {
  Input input;
  const std::string path = adapter_path(options);
  if (options.files.size() > 1) {
    COVEY_ASSIGN(input.model, model::Model::load(options.files.front()));
  }
  if (path.ends_with(".gguf")) {
    if (input.model == nullptr) {
      return Error{ErrorCode::invalid_argument, path + ": name the model too; GGUF orders rows by its heads"};
    }
    COVEY_ASSIGN(const Adapter adapter, load_gguf_adapter(path, *input.model));
    COVEY_ASSIGN(input.file, peft_of(adapter, options.files.front()));
    return input;
  }
  COVEY_ASSIGN(const bool flat, is_flat(path));
  if (flat && input.model != nullptr) {
    COVEY_ASSIGN(const Adapter adapter, load_flat(path, *input.model));
    COVEY_ASSIGN(input.file, peft_of(adapter, options.files.front()));
    return input;
  }
  COVEY_ASSIGN(input.file, read_adapter(path, {.alpha = options.alpha,
                                               .task_type = options.task,
                                               .base_model_name_or_path = input.model ? options.files.front() : ""}));
  input.says_alpha = !input.file.config.source.is_null();
  return input;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    out.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return out;
}

/// sqrt of the sum of squares over the tensors of which `wanted` says so.
template <typename Wanted>
double norm_of(const formats::PeftAdapter& file, Wanted wanted) {
  double squares = 0;
  for (const auto& tensor : file.tensors) {
    if (!wanted(tensor)) continue;
    const auto values = formats::to_f32(tensor.view());
    if (!values.ok()) continue;  // a counter among saved modules
    for (const float value : *values) squares += static_cast<double>(value) * value;
  }
  return std::sqrt(squares);
}

formats::Json names_of(const formats::PeftNames& names) {
  return names.is_text && names.names.size() == 1 ? formats::Json(names.names[0]) : formats::Json(names.names);
}

Status describe_lora(const formats::PeftAdapter& file, bool says_alpha, formats::Json& out) {
  COVEY_ASSIGN(const auto pairs, formats::peft_lora_pairs(file));
  std::map<std::int64_t, int> ranks;
  for (const auto& pair : pairs) ++ranks[pair.a->shape[0]];
  formats::Json by_rank = formats::Json::object();
  for (const auto& [rank, count] : ranks) by_rank.set(std::to_string(rank), count);
  if (says_alpha) out.set("alpha", file.config.lora_alpha);
  out.set("sites", pairs.size())
      .set("sites_by_rank", by_rank)
      .set("scaling", file.config.use_rslora ? "alpha / sqrt(r)" : "alpha / r")
      .set("bias", file.config.bias)
      .set("norm_of_b", norm_of(file, [](const formats::PeftTensor& tensor) {
             return tensor.name.ends_with("lora_B.weight") || tensor.name.ends_with("lora_embedding_B");
           }));
  return {};
}

formats::Json describe(const formats::PeftAdapter& file) {
  std::int64_t values = 0, bytes = 0;
  for (const auto& tensor : file.tensors) {
    values += tensor.view().elements();
    bytes += static_cast<std::int64_t>(tensor.bytes.size());
  }
  formats::Json out = formats::Json::object({{"peft_type", file.config.peft_type},
                                             {"task_type", file.config.task_type},
                                             {"base_model", file.config.base_model_name_or_path},
                                             {"tensors", file.tensors.size()},
                                             {"values", values},
                                             {"bytes", bytes},
                                             {"norm", norm_of(file, [](const auto&) { return true; })}});
  if (file.config.num_virtual_tokens > 0) out.set("num_virtual_tokens", file.config.num_virtual_tokens);
  if (!file.config.target_modules.empty()) out.set("target_modules", names_of(file.config.target_modules));
  if (!file.config.modules_to_save.empty()) out.set("modules_to_save", formats::Json(file.config.modules_to_save));
  return out;
}

/// What an adapter is that PEFT has no form for: its layout, counted. None where PEFT has one.
Result<std::optional<formats::Json>> describe_own(const AdapterFileOptions& options) {
  const std::string path = adapter_path(options);
  if (options.files.size() < 2 || path.ends_with(".gguf")) return std::optional<formats::Json>();
  COVEY_ASSIGN(const bool flat, is_flat(path));
  if (!flat) return std::optional<formats::Json>();
  COVEY_ASSIGN(const auto model, model::Model::load(options.files.front()));
  COVEY_ASSIGN(const Adapter adapter, load_flat(path, *model));
  if (peft_of(adapter, "").ok()) return std::optional<formats::Json>();
  const AdapterLayout& layout = adapter.layout();
  std::map<std::string, int> kinds;
  const std::string text = layout.canonical();
  for (const std::string_view line : lines_of(text)) ++kinds[std::string(line.substr(0, line.find(' ')))];
  kinds.erase("covey-adapter");
  formats::Json counted = formats::Json::object();
  for (const auto& [kind, count] : kinds) counted.set(kind, count);
  return std::optional(
      formats::Json::object({{"form", "flat"}, {"segments", counted}, {"values", layout.size}, {"computed", true}}));
}

}  // namespace

Status run_adapter_info(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto own, describe_own(options));
  if (own) {
    console.result(*own);
    return {};
  }
  AdapterFileOptions described = options;
  if (options.alpha == 0) described.alpha = 1;  // torch's state dict alone lacks its own: then none is printed
  COVEY_ASSIGN(const Input input, open_input(described));
  formats::Json out = describe(input.file);
  if (input.file.config.peft_type == "LORA") {
    COVEY_TRY(describe_lora(input.file, options.alpha > 0 || input.says_alpha, out));
  }
  const Status computed = check_computed(input.file);
  out.set("computed", computed.ok());
  if (!computed.ok()) out.set("not_computed", computed.error().message);
  if (computed.ok() && input.model != nullptr) {
    COVEY_TRY(attach_peft(input.file, *input.model, options.files.back()));
  }
  console.result(out);
  return {};
}

Status run_adapter_export(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const Input input, open_input(options));
  if (options.out.ends_with(".gguf")) {
    if (input.model == nullptr) {
      return Error{ErrorCode::invalid_argument, options.out + ": name the model too; GGUF orders rows by its heads"};
    }
    COVEY_TRY(check_computed(input.file));
    COVEY_ASSIGN(const Adapter adapter, attach_peft(input.file, *input.model, options.files.back()));
    COVEY_TRY(save_gguf_adapter(options.out, adapter, *input.model));
    console.result(formats::Json::object({{"out", options.out}, {"form", "gguf"}, {"values", adapter.layout().size}}));
    return {};
  }
  if (input.model != nullptr && check_computed(input.file).ok()) {
    COVEY_ASSIGN(const Adapter adapter, attach_peft(input.file, *input.model, options.files.back()));
    COVEY_TRY(save_flat(options.out, adapter));
    console.result(formats::Json::object({{"out", options.out}, {"form", "flat"}, {"values", adapter.layout().size}}));
    return {};
  }
  COVEY_TRY(save_whole(options.out, input.file));
  console.result(
      formats::Json::object({{"out", options.out}, {"form", "whole"}, {"tensors", input.file.tensors.size()}}));
  return {};
}

Status run_adapter_import(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const Input input, open_input(options));
  if (input.model != nullptr && check_computed(input.file).ok()) {
    COVEY_TRY(attach_peft(input.file, *input.model, options.files.back()));
  }
  COVEY_TRY(formats::write_peft_directory(options.out, input.file));
  console.result(formats::Json::object(
      {{"out", options.out}, {"peft_type", input.file.config.peft_type}, {"tensors", input.file.tensors.size()}}));
  return {};
}

}  // namespace covey::adapters
