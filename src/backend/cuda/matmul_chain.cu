// Chains of the K-quants and IQ4_XS, alone and in pairs, and of Q8_0.
#include "backend/cuda/matmul_chain.cuh"

namespace spate::cuda {

ChainKernel chain_kernel(QuantType first, QuantType second) {
  using enum QuantType;
  if (first == kQ8_0 && second == kQ8_0) return launch_chain<kQ8_0>;
#define SPATE_TWO_TYPES(a, b) \
  if (first == a && second == b) return launch_chain<a, b>;
#define SPATE_ONE_TYPE(a) SPATE_TWO_TYPES(a, a)
#include "backend/cuda/superblock_types.def"
  return nullptr;
}

}  // namespace spate::cuda
