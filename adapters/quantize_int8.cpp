#include "adapters/quantize_int8.h"

#include <algorithm>

#include "adapters/convert_tokenizer.h"
#include "adapters/workbench.h"
#include "core/model/engine.h"

namespace covey::adapters {
namespace {

constexpr int kCalibrationBatch = 8;

Status check_int8_options(const Int8Options& options) {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  const bool looks = options.smooth.has_value() || options.outliers > 0;
  if (options.smooth && !(*options.smooth >= 0 && *options.smooth <= 1)) return wrong("smooth: must be in [0, 1]");
  if (options.outliers < 0) return wrong("outliers: must be 0 or more");
  if (looks && options.calibrate.empty()) {
    return wrong("quantize: smoothing and outlier columns need a text to look at; name one with --calibrate");
  }
  if (!looks && !options.calibrate.empty()) {
    return wrong("quantize: calibration text is for --smooth or --outliers; add one, or leave it out");
  }
  return {};
}

/// The largest inputs of each layer over the calibration text.
Result<model::InputPeaks> peaks_on_text(const Workbench& bench, const Int8Options& options, ThreadPool& pool) {
  const model::ModelConfig& config = bench.model->config();
  if (config.task != model::Task::causal_lm) {
    return Error{ErrorCode::unsupported,
                 "quantize: calibration is for models that generate text; leave --smooth and "
                 "--outliers out"};
  }
  const int seq = std::min(options.seq, config.context_max);
  COVEY_ASSIGN(const auto examples, read_examples(options.calibrate));
  std::vector<train::TokenRow> rows = example_rows(*bench.tokenizer, examples, seq);
  rows.resize(std::min(rows.size(), static_cast<std::size_t>(options.rows)));
  if (rows.empty()) return Error{ErrorCode::invalid_argument, options.calibrate + ": holds no text to calibrate on"};
  COVEY_ASSIGN(auto batcher,
               data::Batcher::create(rows, {.batch = kCalibrationBatch, .shuffle = false, .masking = {}}));
  COVEY_ASSIGN(const auto engine,
               model::Engine::create(*bench.model, {.batch_max = kCalibrationBatch, .seq_max = seq}, pool));
  model::InputPeaks peaks;
  engine->record_inputs(&peaks);
  for (std::size_t done = 0; done < rows.size();) {
    const data::Batch batch = batcher.next();
    COVEY_TRY(engine->loss(train::token_batch(batch), {}, {}));
    done += static_cast<std::size_t>(batch.B);
  }
  return peaks;
}

}  // namespace

Result<Int8Conversion> quantize_int8(const std::string& in, const std::string& out, const Int8Options& options,
                                     ThreadPool& pool) {
  COVEY_TRY(check_int8_options(options));
  Int8Conversion result;
  Workbench bench;
  const bool looks = !options.calibrate.empty();
  if (looks) {
    COVEY_ASSIGN(bench, open_workbench(in, options.tokenizer, {.writable = options.smooth.has_value()}));
  } else {
    COVEY_ASSIGN(bench.model, model::Model::load(in));
  }
  model::Model& model = *bench.model;
  if (model.is_int8_file()) {
    return Error{ErrorCode::invalid_argument, in + ": is in int8 already; quantize the f32 model that it was made of"};
  }
  if (looks) {
    COVEY_ASSIGN(model::InputPeaks peaks, peaks_on_text(bench, options, pool));
    if (options.smooth) {
      COVEY_ASSIGN(result.smoothed, model.smooth(peaks, *options.smooth));
      if (result.smoothed.norms.empty()) {
        return Error{ErrorCode::unsupported,
                     in + ": --smooth finds no norm whose result linear layers alone read; leave it out"};
      }
    }
    if (options.outliers > 0) COVEY_TRY(model.keep_outliers(peaks, options.outliers));
  }
  COVEY_TRY(model.use_int8());
  COVEY_TRY(model.save_int8(out));
  result.done.tensors = static_cast<std::int64_t>(model.tensors().size());
  result.done.parameters = model.parameter_count();
  COVEY_TRY(tokenizer_to_directory(in, options.tokenizer, model.config().vocab_size, out, result.done.not_held));
  return result;
}

}  // namespace covey::adapters
