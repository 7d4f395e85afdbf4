// Streamed int8 products of the K-quants and IQ4_XS, alone and in pairs.
#include "backend/cuda/matmul_stream_int8.cuh"

namespace spate::cuda {

StreamKernel stream_int8_kernel_of_superblocks(QuantType first, QuantType second) {
  using enum QuantType;
#define SPATE_TWO_TYPES(a, b) \
  if (first == a && second == b) return launch_stream_int8<a, b>;
#define SPATE_ONE_TYPE(a) SPATE_TWO_TYPES(a, a)
#include "backend/cuda/superblock_types.def"
  return nullptr;
}

}  // namespace spate::cuda
