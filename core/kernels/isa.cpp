#include "core/kernels/isa.h"

#include "core/base/cpu.h"

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

}  // namespace covey::kernels
