/// What the processor can do, asked once. `COVEY_ISA` forces a lower choice: portable, avx2, avx512.
#pragma once

#include <string>

namespace covey {

enum class Isa { portable, avx2, avx512 };  ///< avx2 means x86-64-v3 (with FMA); avx512 means x86-64-v4

const char* to_string(Isa isa);
/// The best variant of this machine, or what COVEY_ISA asks for (never above what the machine has).
Isa chosen_isa();
/// "Intel(R) Xeon(R) Processor", from /proc/cpuinfo; "unknown" where it does not say.
std::string cpu_name();
int cpu_count();
/// Physical memory in bytes; 0 where the system does not say.
unsigned long long memory_bytes();

}  // namespace covey
