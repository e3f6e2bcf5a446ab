#include "core/base/cpu.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

namespace covey {

const char* to_string(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    case Isa::portable:
      break;
  }
  return "portable";
}

static Isa detect_isa() {
  Isa best = Isa::portable;
#if defined(__x86_64__)
  // Feature by feature, since clang 14 does not know the names of the levels. No processor has these without the rest.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3) best = Isa::avx2;
  if (v4) best = Isa::avx512;
#endif
  if (const char* forced = std::getenv("COVEY_ISA")) {
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
      if (std::strcmp(forced, to_string(isa)) == 0) best = std::min(best, isa);
    }
  }
  return best;
}

Isa chosen_isa() {
  static const Isa isa = detect_isa();
  return isa;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (colon != std::string::npos && (line.rfind("model name", 0) == 0 || line.rfind("Hardware", 0) == 0)) {
      return colon + 2 <= line.size() ? line.substr(colon + 2) : "unknown";
    }
  }
  return "unknown";
}

int cpu_count() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

unsigned long long memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long size = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && size > 0 ? static_cast<unsigned long long>(pages) * static_cast<unsigned long long>(size) : 0;
}

}  // namespace covey
