// Pairs of types that the mixes put side by side in one attention layer: queries and keys of the first, values of the
// second.
#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

PairKernel pair_kernel(QuantType first, QuantType second) {
  struct Row {
    QuantType first, second;
    PairKernel kernel;
  };
#define SPATE_PAIR(a, b) \
  { QuantType::a, QuantType::b, launch_pair<TileFormat<QuantType::a>, TileFormat<QuantType::b>> }
  static constexpr Row kRows[] = {
      SPATE_PAIR(kQ4_K, kQ6_K), SPATE_PAIR(kQ4_K, kQ5_K), SPATE_PAIR(kQ5_K, kQ6_K), SPATE_PAIR(kQ3_K, kQ4_K),
      SPATE_PAIR(kQ3_K, kQ5_K), SPATE_PAIR(kQ2_K, kQ3_K), SPATE_PAIR(kQ2_K, kQ4_K),
  };
#undef SPATE_PAIR
  for (const Row& row : kRows)
    if (row.first == first && row.second == second) return row.kernel;
  return nullptr;
}

}  // namespace spate::cuda
