#define SPATE_ISA_NAMESPACE isa_portable
#include "backend/cpu/ops_impl.h"

namespace spate::cpu {

const OpTable& op_table_portable() {
  return isa_portable::kOps;
}

}  // namespace spate::cpu
