#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kQ5_0>();
template TypeKernels make_type_kernels<QuantType::kQ5_1>();
template TypeKernels make_type_kernels<QuantType::kQ5_K>();

}  // namespace spate::cuda
