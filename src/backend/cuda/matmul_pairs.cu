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
constexpr Pair kPairs[] = {
#define SPATE_ONE_TYPE(a)
#define SPATE_TWO_TYPES(a, b)                                                                   \
  {QuantType::a, QuantType::b, launch_pair<TileFormat<QuantType::a>, TileFormat<QuantType::b>>, \
   launch_wide_pair<TileFormat<QuantType::a>, TileFormat<QuantType::b>>},
#include "backend/cuda/superblock_types.def"
};

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
