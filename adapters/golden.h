/// Compares the engine with golden directories: what an independent implementation computed on tiny models (forward,
/// loss, LoRA and soft-prompt gradients, directional derivative, twenty steps of AdamW and SGD). The layout of a
/// directory and the limits are those of golden/README.md.
#pragma once

#include <string>
#include <vector>

#include "core/base/thread_pool.h"

namespace covey::adapters {

struct GoldenCheck {
  std::string name;  ///< "logits", "lora_grad", "adamw.final", ...
  double error = 0;  ///< largest deviation, scaled so that `limit` is one number per quantity
  double limit = 0;
  [[nodiscard]] bool ok() const { return error <= limit; }  // false for NaN
};

struct GoldenReport {
  std::string name;     ///< the directory's last component
  std::string failure;  ///< why nothing could be compared, e.g. a family the engine does not know; else empty
  std::vector<GoldenCheck> checks;
  [[nodiscard]] bool passed() const;
  /// "ok llama logits 5.2e-06 loss 1.9e-07 ..." or "FAILED ...: reason"; one line.
  [[nodiscard]] std::string line() const;
};

GoldenReport check_golden_case(const std::string& directory, ThreadPool& pool);

}  // namespace covey::adapters
