#define COVEY_ISA_NAMESPACE isa_base
#include "core/kernels/isa_body.h"

namespace covey::kernels {
const IsaTable& isa_table_base() {
  return isa_base::kTable;
}
}  // namespace covey::kernels
