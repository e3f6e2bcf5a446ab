#include "core/train/evaluate.h"

#include <algorithm>
#include <cmath>
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

}  // namespace

Result<Evaluation> evaluate(const model::Model& model, const model::AdapterSpec& spec,
                            const model::AdapterView& adapter, std::span<const TokenRow> rows,
                            const EvaluateOptions& options, ThreadPool& pool) {
  if (options.batch < 1 || options.seq < 1) {
    return Error{ErrorCode::invalid_argument, "evaluate: batch and seq must be at least 1"};
  }
  const int seq = std::min(options.seq, model.config().context_max - spec.prompt_tokens);
  std::vector<TokenRow> kept = usable_rows(rows, seq);
  if (kept.empty()) return Error{ErrorCode::invalid_argument, "evaluate: no row has a token to predict"};
  std::stable_sort(kept.begin(), kept.end(),
                   [](const TokenRow& a, const TokenRow& b) { return a.ids.size() > b.ids.size(); });

  const std::size_t batch = std::min(kept.size(), static_cast<std::size_t>(options.batch));
  COVEY_ASSIGN(auto batcher, data::Batcher::create(kept, {.batch = static_cast<int>(batch), .shuffle = false}));
  COVEY_ASSIGN(const auto engine, model::Engine::create(model,
                                                        {.batch_max = static_cast<int>(batch),
                                                         .seq_max = static_cast<int>(kept.front().ids.size()),
                                                         .prompt_tokens_max = spec.prompt_tokens},
                                                        pool));
  model::LossResult total;
  for (std::size_t at = 0; at < kept.size(); at += batch) {
    if (options.cancelled && options.cancelled()) return Error{ErrorCode::cancelled, "evaluation was cancelled"};
    COVEY_ASSIGN(const model::LossResult loss, engine->loss(token_batch(batcher.next()), spec, adapter));
    total.loss_sum += loss.loss_sum;
    total.targets += loss.targets;
    total.correct += loss.correct;
  }
  return finish(total.loss_sum, total.correct, total.targets, static_cast<std::int64_t>(kept.size()));
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
