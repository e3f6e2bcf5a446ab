#include "core/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

namespace covey::train {
namespace {

Evaluation finish(double loss_sum, std::int64_t correct, std::int64_t tokens, std::int64_t examples) {
  const auto count = static_cast<double>(tokens);
  const double loss = loss_sum / count;
  return {.loss = loss,
          .perplexity = std::exp(loss),
          .accuracy = static_cast<double>(correct) / count,
          .tokens = tokens,
          .examples = examples};
}

/// Rows that can be evaluated, the longest first, and what goes through them.
struct Course {
  std::vector<TokenRow> rows;
  std::optional<data::Batcher> batcher;
  std::unique_ptr<model::Engine> engine;
  std::size_t batch = 1;

  /// fn(batch) for every batch, until it fails.
  template <typename F>
  Status each(const EvaluateOptions& options, F fn) {
    for (std::size_t at = 0; at < rows.size(); at += batch) {
      if (options.cancelled && options.cancelled()) return Error{ErrorCode::cancelled, "evaluation was cancelled"};
      COVEY_TRY(fn(token_batch(batcher->next())));
    }
    return {};
  }
};

Status prepare(Course& course, const model::Model& model, const model::AdapterSpec& spec,
               std::span<const TokenRow> rows, const EvaluateOptions& options, ThreadPool& pool) {
  if (options.batch < 1 || options.seq < 1 || options.target_seq < 0) {
    return Error{ErrorCode::invalid_argument, "evaluate: batch and seq must be at least 1"};
  }
  const int seq = std::min(options.seq, model.config().context_max - spec.virtual_tokens());
  course.rows =
      usable_rows(rows, seq, std::min(options.target_seq, model.config().context_max - spec.virtual_tokens()));
  if (course.rows.empty()) return Error{ErrorCode::invalid_argument, "evaluate: no row has a token to predict"};
  if (const Status fits = check_kind(course.rows, model.config()); !fits.ok()) return fits.error().in("evaluate");
  std::stable_sort(course.rows.begin(), course.rows.end(),
                   [](const TokenRow& a, const TokenRow& b) { return a.ids.size() > b.ids.size(); });
  course.batch = std::min(course.rows.size(), static_cast<std::size_t>(options.batch));
  COVEY_ASSIGN(course.batcher, data::Batcher::create(course.rows, {.batch = static_cast<int>(course.batch),
                                                                   .shuffle = false,
                                                                   .masking = options.masking}));
  const RowSizes most = longest(course.rows);
  COVEY_ASSIGN(course.engine, model::Engine::create(model,
                                                    {.batch_max = static_cast<int>(course.batch),
                                                     .seq_max = most.seq,
                                                     .prompt_tokens_max = spec.virtual_tokens(),
                                                     .target_seq_max = most.target_seq},
                                                    pool));
  return {};
}

/// -log softmax(logits)[target], in double.
double loss_of(std::span<const float> logits, std::int32_t target) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - static_cast<double>(most));
  return std::log(sum) + static_cast<double>(most) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

}  // namespace

Result<Evaluation> evaluate(const model::Model& model, const model::AdapterSpec& spec,
                            const model::AdapterView& adapter, std::span<const TokenRow> rows,
                            const EvaluateOptions& options, ThreadPool& pool) {
  Course course;
  COVEY_TRY(prepare(course, model, spec, rows, options, pool));
  model::LossResult total;
  const auto add = [&](const model::TokenBatch& batch) -> Status {
    COVEY_ASSIGN(const model::LossResult loss, course.engine->loss(batch, spec, adapter));
    total.loss_sum += loss.loss_sum;
    total.targets += loss.targets;
    total.correct += loss.correct;
    return {};
  };
  COVEY_TRY(course.each(options, add));
  return finish(total.loss_sum, total.correct, total.targets, static_cast<std::int64_t>(course.rows.size()));
}

Result<ClassEvaluation> evaluate_classes(const model::Model& model, const model::AdapterSpec& spec,
                                         const model::AdapterView& adapter, std::span<const TokenRow> rows,
                                         const EvaluateOptions& options, ThreadPool& pool) {
  if (model.config().task != model::Task::classification) {
    return Error{ErrorCode::invalid_argument, "evaluate: the model is no classifier"};
  }
  Course course;
  COVEY_TRY(prepare(course, model, spec, rows, options, pool));
  const auto classes = static_cast<std::size_t>(model.config().classes);
  ClassEvaluation out;
  out.counts = ClassCounts(model.config().classes);
  double loss_sum = 0;
  std::int64_t correct = 0;
  std::vector<float> logits;
  const auto add = [&](const model::TokenBatch& batch) -> Status {
    logits.resize(static_cast<std::size_t>(batch.B) * classes);
    COVEY_TRY(course.engine->logits(batch, spec, adapter, logits));
    for (std::size_t b = 0; b < static_cast<std::size_t>(batch.B); ++b) {
      const std::int32_t truth = batch.targets[b];
      if (truth < 0 || static_cast<std::size_t>(truth) >= classes) {
        return Error{ErrorCode::invalid_argument,
                     "evaluate: class " + std::to_string(truth) + " of " + std::to_string(classes)};
      }
      const auto row = std::span<const float>(logits).subspan(b * classes, classes);
      const auto best = static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
      out.counts.add(truth, best);
      loss_sum += loss_of(row, truth);
      correct += best == truth ? 1 : 0;
    }
    return {};
  };
  COVEY_TRY(course.each(options, add));
  out.total = finish(loss_sum, correct, out.counts.examples(), out.counts.examples());
  return out;
}

Evaluation combine(const Evaluation& a, const Evaluation& b) {
  if (a.tokens == 0) return b;
  if (b.tokens == 0) return a;
  const auto in_a = static_cast<double>(a.tokens);
  const auto in_b = static_cast<double>(b.tokens);
  const double loss = (a.loss * in_a + b.loss * in_b) / (in_a + in_b);
  return {.loss = loss,
          .perplexity = std::exp(loss),
          .accuracy = (a.accuracy * in_a + b.accuracy * in_b) / (in_a + in_b),
          .tokens = a.tokens + b.tokens,
          .examples = a.examples + b.examples};
}

}  // namespace covey::train
