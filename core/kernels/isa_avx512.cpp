#define COVEY_ISA_NAMESPACE isa_avx512
#include "core/kernels/isa_body.h"

namespace covey::kernels {
const IsaTable& isa_table_avx512() {
  return isa_avx512::kTable;
}
}  // namespace covey::kernels
