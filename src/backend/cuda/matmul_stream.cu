// Streamed products of float16 weights and of the types with qblocks of 32.
#include "backend/cuda/matmul_stream.cuh"

namespace spate::cuda {

StreamKernel stream_kernel(QuantType first, QuantType second) {
  if (const StreamKernel kernel = stream_kernel_of_superblocks(first, second)) return kernel;
  if (first != second) return nullptr;
  switch (first) {
    case QuantType::kF16:
    case QuantType::kBF16:
    case QuantType::kF32:
      return launch_stream<QuantType::kF16>;
    case QuantType::kQ4_0:
      return launch_stream<QuantType::kQ4_0>;
    case QuantType::kQ4_1:
      return launch_stream<QuantType::kQ4_1>;
    case QuantType::kQ5_0:
      return launch_stream<QuantType::kQ5_0>;
    case QuantType::kQ5_1:
      return launch_stream<QuantType::kQ5_1>;
    case QuantType::kQ8_0:
      return launch_stream<QuantType::kQ8_0>;
    case QuantType::kIQ4_NL:
      return launch_stream<QuantType::kIQ4_NL>;
    default:
      return nullptr;
  }
}

}  // namespace spate::cuda
