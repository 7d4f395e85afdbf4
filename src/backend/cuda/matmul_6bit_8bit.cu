#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kQ6_K>();
template TypeKernels make_type_kernels<QuantType::kQ8_0>();

}  // namespace spate::cuda
