#include "adapters/choices.h"

#include <algorithm>
#include <set>

#include "core/data/batcher.h"
#include "core/model/engine.h"
#include "core/train/rows.h"

namespace covey::adapters {
namespace {

Result<std::vector<std::string>> labels_of(std::span<const data::Example> examples) {
  std::set<std::string> labels;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const auto& example = examples[i];
    if (example.prompt.empty() || example.text.empty()) {
      return Error{ErrorCode::invalid_argument,
                   "example " + std::to_string(i + 1) + " has no \"prompt\" with a \"completion\" to choose"};
    }
    labels.insert(example.text);
    if (labels.size() > kLabelsMax) {
      return Error{ErrorCode::invalid_argument,
                   "more than " + std::to_string(kLabelsMax) + " different completions: they are no labels"};
    }
  }
  if (labels.size() < 2) return Error{ErrorCode::invalid_argument, "all completions are the same: nothing to choose"};
  return std::vector<std::string>(labels.begin(), labels.end());
}

}  // namespace

train::ClassCounts Classification::counts() const {
  train::ClassCounts out(static_cast<int>(labels.size()));
  for (std::size_t i = 0; i < truth.size(); ++i) out.add(truth[i], predicted[i]);
  return out;
}

Result<Classification> classify(const model::Model& model, const model::AdapterSpec& spec,
                                const model::AdapterView& adapter, const text::Tokenizer& tokenizer,
                                std::span<const data::Example> examples, const ChoiceOptions& options,
                                ThreadPool& pool) {
  Classification out;
  COVEY_ASSIGN(out.labels, labels_of(examples));
  const int seq = std::min(options.seq, model.config().context_max - spec.virtual_tokens());
  if (seq < 2) return Error{ErrorCode::invalid_argument, "classify: seq must be at least 2"};
  COVEY_ASSIGN(const auto engine,
               model::Engine::create(model, {.seq_max = seq, .prompt_tokens_max = spec.virtual_tokens()}, pool));
  for (std::size_t i = 0; i < examples.size(); ++i) {
    double best = 0;
    int chosen = -1;
    for (std::size_t label = 0; label < out.labels.size(); ++label) {
      const data::TokenRow row =
          data::tokenize(tokenizer, {.prompt = examples[i].prompt, .text = out.labels[label]}, seq + 1);
      if (row.ids.size() > static_cast<std::size_t>(seq) || !train::has_target(row, seq)) {
        return Error{ErrorCode::invalid_argument,
                     "example " + std::to_string(i + 1) + " is longer than " + std::to_string(seq) + " tokens"};
      }
      const model::TokenBatch batch{
          .B = 1, .T = static_cast<int>(row.ids.size()), .ids = row.ids, .targets = row.targets, .lengths = {}};
      COVEY_ASSIGN(const model::LossResult loss, engine->loss(batch, spec, adapter));
      if (chosen < 0 || loss.loss_sum < best) {
        best = loss.loss_sum;
        chosen = static_cast<int>(label);
      }
    }
    const auto is = std::lower_bound(out.labels.begin(), out.labels.end(), examples[i].text);
    out.truth.push_back(static_cast<int>(is - out.labels.begin()));
    out.predicted.push_back(chosen);
    if (options.progress) options.progress(i + 1, examples.size());
  }
  return out;
}

}  // namespace covey::adapters
