#include "backend/cuda/swiglu.h"

namespace spate::cuda {

namespace {

// A thread two neighbouring columns, which stay neighbours in memory.
__global__ void swiglu_kernel(const float* gate_up, int64_t n_pairs, int d_ff, __half* ff, int64_t ff_stride) {
  release_successor();
  wait_for_predecessor();
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n_pairs) return;
  const int pairs = d_ff / 2;
  const int64_t token = i / pairs;
  const int column = static_cast<int>(i % pairs) * 2;
  const auto gate = *reinterpret_cast<const float2*>(gate_up + token * 2 * d_ff + column);
  const auto up = *reinterpret_cast<const float2*>(gate_up + token * 2 * d_ff + d_ff + column);
  const auto product = [](float g, float u) { return g / (1.0f + __expf(-g)) * u * kFfScale; };
  *reinterpret_cast<__half2*>(ff + token * ff_stride + k_position(column)) =
      __floats2half2_rn(product(gate.x, up.x), product(gate.y, up.y));
}

}  // namespace

cudaError_t launch_swiglu(const float* gate_up, int n_tokens, int d_ff, __half* ff, int64_t ff_stride,
                          const Launch& how) {
  constexpr int kThreads = 256;
  const int64_t n_pairs = int64_t{n_tokens} * (d_ff / 2);
  Launch sized = how;
  sized.grid = dim3(static_cast<unsigned>((n_pairs + kThreads - 1) / kThreads));
  sized.block = dim3(kThreads);
  return launch(sized, swiglu_kernel, gate_up, n_pairs, d_ff, ff, ff_stride);
}

}  // namespace spate::cuda
