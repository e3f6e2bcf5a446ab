/// Evaluation: mean loss, perplexity and next-token accuracy over rows. Needs no optimizer (the coordinator links
/// this).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"
#include "core/train/rows.h"

namespace covey::train {

struct Evaluation {
  double loss = 0;          ///< nats per target
  double perplexity = 0;    ///< exp(loss)
  double accuracy = 0;      ///< share of targets that have the largest logit
  std::int64_t tokens = 0;  ///< targets
  std::int64_t examples = 0;
};

struct EvaluateOptions {
  int batch = 16;
  int seq = 256;  ///< longer rows are cut here
  /// Asked before each batch; true ends with `cancelled`. May be empty.
  std::function<bool()> cancelled = {};
};

/// Rows are batched by length, so that little padding is computed; the result does not depend on the rows' order beyond
/// rounding. `adapter` may be empty.
/// @errors invalid_argument: no row has a target. cancelled. What Engine reports.
Result<Evaluation> evaluate(const model::Model& model, const model::AdapterSpec& spec,
                            const model::AdapterView& adapter, std::span<const TokenRow> rows,
                            const EvaluateOptions& options, ThreadPool& pool);

/// Two evaluations of disjoint rows as one (weighted by tokens).
Evaluation combine(const Evaluation& a, const Evaluation& b);

}  // namespace covey::train
