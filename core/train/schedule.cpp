#include "core/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace covey::train {

double schedule_factor(const Schedule& schedule, std::int64_t step, std::int64_t total) {
  if (step < schedule.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
  const auto span = static_cast<double>(std::max<std::int64_t>(1, total - schedule.warmup_steps));
  const double progress = std::clamp(static_cast<double>(step - schedule.warmup_steps) / span, 0.0, 1.0);
  switch (schedule.kind) {
    case ScheduleKind::constant:
      return 1;
    case ScheduleKind::linear:
      return 1 + (schedule.final_factor - 1) * progress;
    case ScheduleKind::cosine:
      return schedule.final_factor + (1 - schedule.final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  return 1;
}

}  // namespace covey::train
