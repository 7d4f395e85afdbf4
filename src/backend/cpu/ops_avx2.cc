#define SPATE_ISA_NAMESPACE isa_avx2
#include "backend/cpu/ops_impl.h"

namespace spate::cpu {

const OpTable& op_table_avx2() {
  return isa_avx2::kOps;
}

}  // namespace spate::cpu
