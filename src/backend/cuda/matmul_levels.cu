#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kIQ4_NL>();
template TypeKernels make_type_kernels<QuantType::kIQ4_XS>();

}  // namespace spate::cuda
