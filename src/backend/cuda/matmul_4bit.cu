#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kQ4_0>();
template TypeKernels make_type_kernels<QuantType::kQ4_1>();
template TypeKernels make_type_kernels<QuantType::kQ4_K>();

}  // namespace spate::cuda
