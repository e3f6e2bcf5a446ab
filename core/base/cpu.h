/// What the processor can do, asked once. `COVEY_ISA` forces a lower choice: portable, avx2, avxvnni, avx512,
/// avx512vnni, dotprod, i8mm. (avxvnni and avx512vnni are avx2 and avx512 with int8 instructions; dotprod and i8mm
/// portable with Arm's.)
#pragma once

#include <string>

namespace covey {

enum class Isa { portable, avx2, avx512 };  ///< avx2 means x86-64-v3 (with FMA); avx512 means x86-64-v4

const char* to_string(Isa isa);
/// The best variant of this machine, or what COVEY_ISA asks for (never above what the machine has).
Isa chosen_isa();
/// Instructions for int8 products. @sa core/kernels/int8.h
enum class Int8Isa { portable, avx2, avxvnni, avx512vnni, dotprod, i8mm };
constexpr Int8Isa kInt8Isas[] = {Int8Isa::portable,   Int8Isa::avx2,    Int8Isa::avxvnni,
                                 Int8Isa::avx512vnni, Int8Isa::dotprod, Int8Isa::i8mm};

const char* to_string(Int8Isa isa);
bool cpu_has(Int8Isa isa);
/// As chosen_isa(), for int8 products. Forced to avx512: avx2.
Int8Isa chosen_int8_isa();

/// "Intel(R) Xeon(R) Processor", from /proc/cpuinfo; "unknown" where it does not say.
std::string cpu_name();
int cpu_count();
/// Physical memory in bytes; 0 where the system does not say.
unsigned long long memory_bytes();

}  // namespace covey
