// Streamed products of the K-quants and IQ4_XS, and of those pairs of them that the mixes put side by side
// (matmul_pairs.cu).
#include "backend/cuda/matmul_stream.cuh"

namespace spate::cuda {

StreamKernel stream_kernel_of_superblocks(QuantType first, QuantType second) {
  using enum QuantType;
  struct Row {
    QuantType first, second;
    StreamKernel kernel;
  };
#define SPATE_PAIR(a, b) \
  { a, b, launch_stream<a, b> }
  static constexpr Row kRows[] = {
      SPATE_PAIR(kQ4_K, kQ4_K), SPATE_PAIR(kQ5_K, kQ5_K), SPATE_PAIR(kQ6_K, kQ6_K),     SPATE_PAIR(kQ3_K, kQ3_K),
      SPATE_PAIR(kQ2_K, kQ2_K), SPATE_PAIR(kQ4_K, kQ6_K), SPATE_PAIR(kIQ4_XS, kIQ4_XS), SPATE_PAIR(kQ4_K, kQ5_K),
      SPATE_PAIR(kQ5_K, kQ6_K), SPATE_PAIR(kQ3_K, kQ4_K), SPATE_PAIR(kQ3_K, kQ5_K),     SPATE_PAIR(kQ2_K, kQ3_K),
      SPATE_PAIR(kQ2_K, kQ4_K),
  };
#undef SPATE_PAIR
  for (const Row& row : kRows)
    if (row.first == first && row.second == second) return row.kernel;
  return nullptr;
}

}  // namespace spate::cuda
