#include "backend/cuda/matmul_types.cuh"

namespace spate::cuda {

template TypeKernels make_type_kernels<QuantType::kQ2_K>();
template TypeKernels make_type_kernels<QuantType::kQ3_K>();

}  // namespace spate::cuda
