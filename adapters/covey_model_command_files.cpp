// convert, quantize, adapter merge: commands that turn models into models.
#include "adapters/adapter.h"
#include "adapters/convert.h"
#include "adapters/convert_tokenizer.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "core/base/log.h"

namespace covey::adapters {
namespace {

void print(const std::string& out, const Conversion& done, Console& console) {
  formats::Json result =
      formats::Json::object({{"out", out}, {"tensors", done.tensors}, {"parameters", done.parameters}});
  if (console.json()) {
    result.set("not_held", formats::Json(done.not_held));
    console.result(result);
    return;
  }
  console.result(result);
  for (const std::string& what : done.not_held) console.line("not held: " + what);
}

}  // namespace

Status run_convert(const ConvertOptions& options, Console& console) {
  COVEY_ASSIGN(const Conversion done, convert_model(options.in, options.out, options.common.tokenizer));
  print(options.out, done, console);
  return {};
}

Status run_quantize(const QuantizeOptions& options, Console& console) {
  if (options.scheme == "w8a8") {
    COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
    COVEY_TRY(model->use_int8());
    COVEY_TRY(model->save_int8(options.out));
    Conversion done;
    done.tensors = static_cast<std::int64_t>(model->tensors().size());
    done.parameters = model->parameter_count();
    COVEY_TRY(tokenizer_to_directory(options.common.model, options.common.tokenizer, model->config().vocab_size,
                                     options.out, done.not_held));
    print(options.out, done, console);
    return {};
  }
  const auto type = options.scheme == "q8_0" ? formats::GgmlType::q8_0 : formats::GgmlType::q4_0;
  COVEY_ASSIGN(const Conversion done,
               quantize_model(options.common.model, options.out, type, options.common.tokenizer));
  print(options.out, done, console);
  return {};
}

Status run_adapter_merge(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model, {.writable = true}));
  COVEY_ASSIGN(const Adapter adapter, load_adapter(options.in, *model));
  COVEY_TRY(merge_into(*model, adapter));
  COVEY_TRY(model->save(options.out));
  std::vector<std::string> not_held;
  COVEY_TRY(tokenizer_to_directory(options.common.model, options.common.tokenizer, model->config().vocab_size,
                                   options.out, not_held));
  for (const std::string& what : not_held) log_warning("merge", "not held: " + what);
  console.result(formats::Json::object(
      {{"out", options.out}, {"sites", adapter.layout().lora.size() + adapter.layout().parts.size()}}));
  return {};
}

}  // namespace covey::adapters
