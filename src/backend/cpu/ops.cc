#include "backend/cpu/ops.h"

#include "backend/executor.h"

namespace spate::cpu {

const OpTable& op_table_portable();
#if defined(__x86_64__)
const OpTable& op_table_avx2();
const OpTable& op_table_avx512();
#endif

int64_t KvLayout::keys_elems() const {
  return static_cast<int64_t>(head_dim) * kPageTokens;
}

int64_t KvLayout::head_elems() const {
  return keys_elems() + static_cast<int64_t>(kPageTokens) * head_stride();
}

size_t attention_scratch_elems(int n_queries, int head_dim) {
  return static_cast<size_t>(2) * n_queries * attention_state_elems(head_dim);
}

const OpTable& op_table(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      break;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return op_table_avx2();
    case Isa::kAvx512:
    case Isa::kAmx:
      return op_table_avx512();
#else
    default:
      break;
#endif
  }
  return op_table_portable();
}

}  // namespace spate::cpu
