#include "core/base/cpu.h"

#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

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

/// What COVEY_ISA may say.
struct Forced {
  const char* name;
  Isa isa;
  Int8Isa int8;
};
constexpr Forced kForced[] = {{"portable", Isa::portable, Int8Isa::portable},
                              {"avx2", Isa::avx2, Int8Isa::avx2},
                              {"avxvnni", Isa::avx2, Int8Isa::avxvnni},
                              {"avx512", Isa::avx512, Int8Isa::avx2},
                              {"avx512vnni", Isa::avx512, Int8Isa::avx512vnni},
                              {"dotprod", Isa::portable, Int8Isa::dotprod},
                              {"i8mm", Isa::portable, Int8Isa::i8mm}};

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
    for (const Forced& choice : kForced) {
      if (std::strcmp(forced, choice.name) == 0) best = std::min(best, choice.isa);
    }
  }
  return best;
}

Isa chosen_isa() {
  static const Isa isa = detect_isa();
  return isa;
}

const char* to_string(Int8Isa isa) {
  for (const Forced& choice : kForced) {
    if (choice.int8 == isa) return choice.name;
  }
  return "portable";
}

bool cpu_has(Int8Isa isa) {
#if defined(__x86_64__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool asked = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0;
  switch (isa) {
    case Int8Isa::avx2:
      return v3;
    case Int8Isa::avxvnni:
      return v3 && asked && (eax >> 4 & 1) != 0;
    case Int8Isa::avx512vnni:
      return v3 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    default:
      return isa == Int8Isa::portable;
  }
#elif defined(__aarch64__)
  if (isa == Int8Isa::dotprod) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  if (isa == Int8Isa::i8mm) return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#endif
  return isa == Int8Isa::portable;
}

static Int8Isa detect_int8_isa() {
  if (const char* forced = std::getenv("COVEY_ISA")) {
    for (const Forced& choice : kForced) {
      if (std::strcmp(forced, choice.name) == 0 && cpu_has(choice.int8)) return choice.int8;
    }
  }
  Int8Isa best = Int8Isa::portable;
  for (const Int8Isa isa : kInt8Isas) {
    if (cpu_has(isa)) best = isa;
  }
  return best;
}

Int8Isa chosen_int8_isa() {
  static const Int8Isa isa = detect_int8_isa();
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
