// Streamed int8 products of the types with qblocks of 32.
#include "backend/cuda/matmul_stream_int8.cuh"

namespace spate::cuda {

StreamKernel stream_int8_kernel_of_qblocks(QuantType type) {
  switch (type) {
    case QuantType::kQ4_0:
      return launch_stream_int8<QuantType::kQ4_0>;
    case QuantType::kQ4_1:
      return launch_stream_int8<QuantType::kQ4_1>;
    case QuantType::kQ5_0:
      return launch_stream_int8<QuantType::kQ5_0>;
    case QuantType::kQ5_1:
      return launch_stream_int8<QuantType::kQ5_1>;
    case QuantType::kQ8_0:
      return launch_stream_int8<QuantType::kQ8_0>;
    case QuantType::kIQ4_NL:
      return launch_stream_int8<QuantType::kIQ4_NL>;
    default:
      return nullptr;
  }
}

StreamKernel stream_int8_kernel(QuantType first, QuantType second) {
  const StreamKernel kernel = stream_int8_kernel_of_superblocks(first, second);
  return kernel != nullptr || first != second ? kernel : stream_int8_kernel_of_qblocks(first);
}

}  // namespace spate::cuda
