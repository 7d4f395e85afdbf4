#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kF32>();
template TypeKernels make_type_kernels<QuantType::kF16>();
template TypeKernels make_type_kernels<QuantType::kBF16>();

}  // namespace spate::cuda
