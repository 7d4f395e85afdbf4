// Streamed int8 products of the types with qblocks of 32.
#include "backend/cuda/matmul_stream_int8.cuh"

namespace spate::cuda {

namespace {

template <QuantType type>
constexpr StreamInt8Kernels kKernels = make_stream_int8_kernels<type>();

}  // namespace

const StreamInt8Kernels* stream_int8_kernels_of_qblocks(QuantType type) {
  switch (type) {
    case QuantType::kQ4_0:
      return &kKernels<QuantType::kQ4_0>;
    case QuantType::kQ4_1:
      return &kKernels<QuantType::kQ4_1>;
    case QuantType::kQ5_0:
      return &kKernels<QuantType::kQ5_0>;
    case QuantType::kQ5_1:
      return &kKernels<QuantType::kQ5_1>;
    case QuantType::kQ8_0:
      return &kKernels<QuantType::kQ8_0>;
    case QuantType::kIQ4_NL:
      return &kKernels<QuantType::kIQ4_NL>;
    default:
      return nullptr;
  }
}

const StreamInt8Kernels* stream_int8_kernels(QuantType first, QuantType second) {
  const StreamInt8Kernels* kernels = stream_int8_kernels_of_superblocks(first, second);
  return kernels != nullptr || first != second ? kernels : stream_int8_kernels_of_qblocks(first);
}

}  // namespace spate::cuda
