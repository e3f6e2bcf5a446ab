/// Which of several answers a language model finds likeliest after a prompt, and how often that is the right one.
/// Source: Brown et al. 2020, appendix; MeZO (Malladi et al. 2023) evaluates classification so.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/data/examples.h"
#include "core/model/model.h"
#include "core/text/tokenizer.h"
#include "core/train/class_counts.h"

namespace covey::adapters {

constexpr std::size_t kLabelsMax = 1000;

struct Classification {
  std::vector<std::string> labels;  ///< sorted
  std::vector<int> truth;           ///< per example, an index into labels
  std::vector<int> predicted;
  [[nodiscard]] train::ClassCounts counts() const;
};

struct ChoiceOptions {
  int seq = 256;  ///< tokens per row at most; a longer prompt is refused, since its answer would be cut off
  std::function<void(std::size_t done, std::size_t of)> progress = {};  ///< may be empty
};

/// The labels are the completions that occur in `examples`. Each is scored by the sum of its tokens' log probabilities
/// after the prompt, the end token included; the first of equal ones wins.
/// @errors invalid_argument: an example without a prompt or with a conversation, one label only, more than kLabelsMax,
/// a prompt that leaves no room. What Engine reports. @cost one forward pass per example and label.
Result<Classification> classify(const model::Model& model, const model::AdapterSpec& spec,
                                const model::AdapterView& adapter, const text::Tokenizer& tokenizer,
                                std::span<const data::Example> examples, const ChoiceOptions& options,
                                ThreadPool& pool);

}  // namespace covey::adapters
