/// What a task under differential privacy may say of itself: figures and words, for status, logs and reports.
#pragma once

#include <optional>
#include <string>

#include "coordinator/task.h"
#include "core/base/result.h"
#include "core/store/store.h"

namespace covey::coordinator {

struct PrivacyReport {
  double epsilon = 0;  ///< spent so far
  double delta = 0;
  double epsilon_max = 0;
  double clip_norm = 0;  ///< of the next round
  std::uint64_t rounds_charged = 0;
  std::string mechanism;
  std::string unit;           ///< of privacy
  std::string protects_from;  ///< whom, and whom not
  std::string assumptions;

  /// All of it in one sentence.
  [[nodiscard]] std::string words() const;
};

/// nullopt: the task has no differential privacy. @errors corrupt_data, and what the store reports.
Result<std::optional<PrivacyReport>> read_privacy_report(const TaskConfig& task, store::Store& store);

}  // namespace covey::coordinator
