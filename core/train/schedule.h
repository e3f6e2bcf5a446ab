/// Learning-rate schedules: a factor on the base rate, a pure function of the step.
#pragma once

#include <cstdint>

namespace covey::train {

enum class ScheduleKind { constant, linear, cosine };

struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  std::int64_t warmup_steps = 0;  ///< the factor rises linearly: (step + 1) / warmup_steps
  double final_factor = 0;        ///< what linear and cosine end at
};

/// Factor in [0, 1] for step `step` of `total` (both from 0). After the warm-up: 1 (constant), or from 1 down to
/// final_factor along a line or half a cosine (Loshchilov and Hutter 2017, without restarts), reached after the last
/// step.
double schedule_factor(const Schedule& schedule, std::int64_t step, std::int64_t total);

}  // namespace covey::train
