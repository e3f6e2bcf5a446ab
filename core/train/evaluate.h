/// Evaluation: mean loss, perplexity and accuracy over rows, and how often each class was predicted. Needs no optimizer
/// (the coordinator links this).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"
#include "core/train/class_counts.h"
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
  int seq = 256;       ///< longer rows are cut here
  int target_seq = 0;  ///< targets of an encoder-decoder are cut here; 0: at `seq`, too
  /// Masked language models: what is masked of the rows (sorted by length). None: the rows say it.
  std::optional<data::Masking> masking = {};
  /// Asked before each batch; true ends with `cancelled`. May be empty.
  std::function<bool()> cancelled = {};
};

/// Rows are batched by length, so that little padding is computed; the result does not depend on the rows' order beyond
/// rounding. `adapter` may be empty.
/// @errors invalid_argument: no row has a target. cancelled. What Engine reports.
Result<Evaluation> evaluate(const model::Model& model, const model::AdapterSpec& spec,
                            const model::AdapterView& adapter, std::span<const TokenRow> rows,
                            const EvaluateOptions& options, ThreadPool& pool);

/// A classifier's loss and accuracy, and its predictions (of equal logits the first) counted.
struct ClassEvaluation {
  Evaluation total;
  ClassCounts counts;
};
/// @errors as evaluate; invalid_argument: the model is no classifier, or a class is out of range.
Result<ClassEvaluation> evaluate_classes(const model::Model& model, const model::AdapterSpec& spec,
                                         const model::AdapterView& adapter, std::span<const TokenRow> rows,
                                         const EvaluateOptions& options, ThreadPool& pool);

/// Two evaluations of disjoint rows as one (weighted by tokens).
Evaluation combine(const Evaluation& a, const Evaluation& b);

}  // namespace covey::train
