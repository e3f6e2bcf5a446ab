/// A model's weights rounded to int8 for W8A8, after what calibration text suggests: SmoothQuant's folding, outlier
/// columns (core/model/smooth.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adapters/convert.h"
#include "core/base/thread_pool.h"
#include "core/model/model.h"

namespace covey::adapters {

struct Int8Options {
  std::string tokenizer;         ///< file or directory to take instead of the one with the model; empty: that one
  std::optional<double> smooth;  ///< SmoothQuant's alpha, in [0, 1]; none: no folding
  int outliers = 0;              ///< input columns of each layer that stay f32
  std::string calibrate;         ///< text that the two look at: .txt, .jsonl or .csv; empty where neither is wanted
  int rows = 512;                ///< of it, at most
  int seq = 256;                 ///< tokens per row at most
};

struct Int8Conversion {
  Conversion done;
  model::SmoothReport smoothed;
};

/// Any model that load() reads in f32, as a directory in int8 (Model::save_int8).
/// @errors as Model::load and save_int8; invalid_argument: options that contradict each other, a model in int8 already,
/// text without a token to predict; unsupported: calibration of a model that does not generate, folding where no norm
/// can take it.
Result<Int8Conversion> quantize_int8(const std::string& in, const std::string& out, const Int8Options& options,
                                     ThreadPool& pool);

}  // namespace covey::adapters
