// convert, quantize, adapter merge: commands that turn models into models.
#include "adapters/adapter.h"
#include "adapters/convert.h"
#include "adapters/convert_tokenizer.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/quantize_int8.h"
#include "core/base/log.h"

namespace covey::adapters {
namespace {

void print(const std::string& out, const Conversion& done, Console& console,
           const model::SmoothReport* smoothed = nullptr) {
  formats::Json result =
      formats::Json::object({{"out", out}, {"tensors", done.tensors}, {"parameters", done.parameters}});
  if (smoothed != nullptr) {
    result.set("smoothed_norms", smoothed->norms.size()).set("smoothed_layers", smoothed->layers.size());
  }
  if (console.json()) {
    result.set("not_held", formats::Json(done.not_held));
    if (smoothed != nullptr) result.set("not_smoothed", formats::Json(smoothed->left));
    console.result(result);
    return;
  }
  console.result(result);
  for (const std::string& what : done.not_held) console.line("not held: " + what);
  if (smoothed == nullptr) return;
  for (const std::string& what : smoothed->left) console.line("not smoothed: " + what);
}

}  // namespace

Status run_convert(const ConvertOptions& options, Console& console) {
  COVEY_ASSIGN(const Conversion done, convert_model(options.in, options.out, options.common.tokenizer));
  print(options.out, done, console);
  return {};
}

Status run_quantize(const QuantizeOptions& options, Console& console) {
  const Int8Options int8{.tokenizer = options.common.tokenizer,
                         .smooth = options.smooth,
                         .outliers = options.outliers,
                         .calibrate = options.calibrate,
                         .rows = options.calibrate_rows};
  if (options.scheme == "w8a8") {
    ThreadPool pool(thread_count(options.common.threads));
    COVEY_ASSIGN(const Int8Conversion result, quantize_int8(options.common.model, options.out, int8, pool));
    print(options.out, result.done, console, options.smooth ? &result.smoothed : nullptr);
    return {};
  }
  if (options.smooth || options.outliers > 0 || !options.calibrate.empty()) {
    return Error{ErrorCode::invalid_argument, "quantize: --smooth, --outliers and --calibrate are for --scheme w8a8; " +
                                                  options.scheme + " quantizes no activations"};
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
