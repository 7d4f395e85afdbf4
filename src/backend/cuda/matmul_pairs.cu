// Pairs of types that the mixes put side by side in one attention layer: queries and keys of the first, values of the
// second.
#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

namespace {

struct Pair {
  QuantType first, second;
  PairKernel few;
  WidePairKernel wide;
};
#define SPATE_PAIR(a, b)                                                                         \
  {                                                                                              \
    QuantType::a, QuantType::b, launch_pair<TileFormat<QuantType::a>, TileFormat<QuantType::b>>, \
        launch_wide_pair<TileFormat<QuantType::a>, TileFormat<QuantType::b>>                     \
  }
constexpr Pair kPairs[] = {
    SPATE_PAIR(kQ4_K, kQ6_K), SPATE_PAIR(kQ4_K, kQ5_K), SPATE_PAIR(kQ5_K, kQ6_K), SPATE_PAIR(kQ3_K, kQ4_K),
    SPATE_PAIR(kQ3_K, kQ5_K), SPATE_PAIR(kQ2_K, kQ3_K), SPATE_PAIR(kQ2_K, kQ4_K),
};
#undef SPATE_PAIR

const Pair* find_pair(QuantType first, QuantType second) {
  for (const Pair& pair : kPairs)
    if (pair.first == first && pair.second == second) return &pair;
  return nullptr;
}

}  // namespace

PairKernel pair_kernel(QuantType first, QuantType second) {
  const Pair* pair = find_pair(first, second);
  return pair == nullptr ? nullptr : pair->few;
}

WidePairKernel wide_pair_kernel(QuantType first, QuantType second) {
  const Pair* pair = find_pair(first, second);
  return pair == nullptr ? nullptr : pair->wide;
}

}  // namespace spate::cuda
