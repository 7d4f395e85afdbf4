// SwiGLU of gate and up that lie in memory, for products that are not fused with it.
#pragma once

#include "backend/cuda/launch.h"
#include "backend/cuda/matmul.h"

namespace spate::cuda {

// ff[t, r] = silu(gate_up[t, r]) * gate_up[t, d_ff + r] * kFfScale, permuted (activations.h). gate_up[n_tokens, 2
// d_ff].
cudaError_t launch_swiglu(const float* gate_up, int n_tokens, int d_ff, __half* ff, int64_t ff_stride,
                          const Launch& how);

}  // namespace spate::cuda
