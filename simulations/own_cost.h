/// What a world costs this machine: processor time and memory. Measured, so never part of a result.
#pragma once

#include <cstdint>

#include "core/formats/json.h"

namespace covey::simulations {

double thread_cpu_seconds();
double process_cpu_seconds();
/// Of this process since it began.
std::uint64_t peak_rss_bytes();

/// In memory now; 0 where the system does not say.
std::uint64_t rss_bytes();

/// Processor time of one world, by what it went into.
struct WorldCost {
  double process_s = 0;     ///< all of it, from the first event to the last
  double training_s = 0;    ///< inside jobs of the training pool
  double evaluation_s = 0;  ///< of versions on the held-out rows
  std::uint64_t device_rounds = 0;
};
/// Adds to `measured`: processor seconds, peak memory, and per device-round the training alone, everything but the
/// evaluations, and by what part the second is above the first.
void add_cost(formats::Json& measured, const WorldCost& cost);

}  // namespace covey::simulations
