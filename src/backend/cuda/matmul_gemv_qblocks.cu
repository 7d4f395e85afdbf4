// Register GEMVs of the types with qblocks of 32.
#include "backend/cuda/matmul_gemv.cuh"

namespace spate::cuda {

GemvKernel gemv_kernel_of_qblocks(QuantType type) {
  switch (type) {
    case QuantType::kQ4_0:
      return launch_gemv<QuantType::kQ4_0>;
    case QuantType::kQ4_1:
      return launch_gemv<QuantType::kQ4_1>;
    case QuantType::kQ5_0:
      return launch_gemv<QuantType::kQ5_0>;
    case QuantType::kQ5_1:
      return launch_gemv<QuantType::kQ5_1>;
    case QuantType::kQ8_0:
      return launch_gemv<QuantType::kQ8_0>;
    case QuantType::kIQ4_NL:
      return launch_gemv<QuantType::kIQ4_NL>;
    default:
      return nullptr;
  }
}

GemvKernel gemv_kernel(QuantType first, QuantType second) {
  const GemvKernel kernel = gemv_kernel_of_superblocks(first, second);
  return kernel != nullptr || first != second ? kernel : gemv_kernel_of_qblocks(first);
}

}  // namespace spate::cuda
