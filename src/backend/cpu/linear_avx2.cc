// The linear kernels in AVX2, FMA and F16C.
#include <immintrin.h>

#include "backend/cpu/linear_kernels.h"
#include "quant/iq4_nl.h"

namespace spate::cpu {

namespace {

// Each builds on the ones before it.
// clang-format off
#include "backend/cpu/simd_avx2.h"
#include "backend/cpu/linear_formats.inl"
#include "backend/cpu/linear_integer.inl"
#include "backend/cpu/linear_integer_pairs.inl"
#include "backend/cpu/linear_float.inl"
#include "backend/cpu/linear_quantize.inl"
#include "backend/cpu/linear_table.inl"
// clang-format on

}  // namespace

const LinearKernels& avx2_linear_kernels() {
  static constexpr LinearKernels kKernels = {.kernel_for = kernel_for, .quantize = quantize};
  return kKernels;
}

}  // namespace spate::cpu
