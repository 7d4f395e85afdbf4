#define SPATE_ISA_NAMESPACE isa_avx512
#include "backend/cpu/ops_impl.h"

namespace spate::cpu {

const OpTable& op_table_avx512() {
  return isa_avx512::kOps;
}

}  // namespace spate::cpu
