#include "backend/cuda/ops.h"
#include "base/check.h"

namespace spate::cuda {

void check_raw_heads(const RawHeads& raw, int head_dim) {
  SPATE_CHECK(raw.qkv != nullptr && (raw.q_norm == nullptr) == (raw.k_norm == nullptr), "half of the QK-norm");
  SPATE_CHECK(raw.rotary_dim >= 0 && raw.rotary_dim % 2 == 0 && raw.rotary_dim <= head_dim &&
                  (raw.rotary_dim == 0 || raw.frequencies != nullptr),
              "{} rotary dimensions of {}", raw.rotary_dim, head_dim);
}

}  // namespace spate::cuda
