#define COVEY_ISA_NAMESPACE isa_avx2
#include "core/kernels/isa_body.h"

namespace covey::kernels {
const IsaTable& isa_table_avx2() {
  return isa_avx2::kTable;
}
}  // namespace covey::kernels
