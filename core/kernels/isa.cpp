#include "core/kernels/isa.h"

#include "core/base/cpu.h"
#include "core/kernels/int8_isa.h"

namespace covey::kernels {

const IsaTable& isa_table() {
#if defined(__x86_64__)
  static const IsaTable& table = chosen_isa() == Isa::avx512 ? isa_table_avx512()
                                 : chosen_isa() == Isa::avx2 ? isa_table_avx2()
                                                             : isa_table_base();
  return table;
#else
  return isa_table_base();
#endif
}

const Int8Table* int8_table(Int8Isa isa) {
  if (!cpu_has(isa)) return nullptr;
  switch (isa) {
#if defined(__x86_64__)
    case Int8Isa::avx2:
      return &int8_table_avx2();
    case Int8Isa::avxvnni:
      return &int8_table_avxvnni();
    case Int8Isa::avx512vnni:
      return &int8_table_avx512vnni();
#elif defined(__aarch64__)
    case Int8Isa::dotprod:
      return &int8_table_dotprod();
    case Int8Isa::i8mm:
      return &int8_table_i8mm();
#endif
    default:
      return &int8_table_base();
  }
}

const Int8Table& int8_table() {
  static const Int8Table& table = *int8_table(chosen_int8_isa());
  return table;
}

}  // namespace covey::kernels
