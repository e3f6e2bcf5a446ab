#include "simulations/own_cost.h"

#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>

namespace covey::simulations {
namespace {

double seconds_of(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

double thread_cpu_seconds() {
  return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}
double process_cpu_seconds() {
  return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

std::uint64_t rss_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  std::uint64_t resident = 0;
  statm >> pages >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void add_cost(formats::Json& measured, const WorldCost& cost) {
  measured.set("process_cpu_s", cost.process_s).set("training_cpu_s", cost.training_s);
  measured.set("evaluation_cpu_s", cost.evaluation_s).set("peak_rss_bytes", peak_rss_bytes());
  measured.set("device_rounds", cost.device_rounds);
  if (cost.device_rounds == 0 || cost.training_s <= 0) return;
  const auto rounds = static_cast<double>(cost.device_rounds);
  const double all_s = cost.process_s - cost.evaluation_s;
  measured.set("device_round_training_ms", cost.training_s * 1e3 / rounds);
  measured.set("device_round_all_ms", all_s * 1e3 / rounds);
  measured.set("device_round_overhead", all_s / cost.training_s - 1);
}

}  // namespace covey::simulations
