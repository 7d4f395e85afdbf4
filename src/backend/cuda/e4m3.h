// E4M3, the 8-bit float of four exponent and three mantissa bits (Micikevicius et al. 2022, "FP8 formats for deep
// learning"): relative steps of 2^-3 from 2^-6 to 448, absolute ones of 2^-9 below, no infinity.
//
// A float format keeps its precision at any scale, so all that a scale has to do is to bring values into the range. A
// power of two does, and rounds nothing itself.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cuda/half2_bits.h"

namespace spate::cuda {

// Half a step of a value, and of one below 2^-6.
inline constexpr double kE4m3Rounding = 0x1p-4, kE4m3Underflow = 0x1p-10;

// The logarithm of the power of two that takes a largest magnitude to (224, 448]. At most 15, for the power must be a
// float16: values that are all under 2^-7 end lower, and have the less of E4M3's range. largest: the bits of a float16
// without its sign.
SPATE_HD constexpr int e4m3_scale_log2(uint32_t largest) {
  // 448 is 1.75 * 2^8. An infinity counts as the next power of two, and saturates.
  const int exponent = static_cast<int>(largest >> 10), over = (largest & 0x3ff) > 0x300;
  const int log2 = 8 + 15 - exponent - over;
  return log2 < 15 ? log2 : 15;
}

// 2^log2 in both halves; log2 from -14 to 15.
SPATE_HD constexpr Half2Bits half2_power(int log2) {
  return static_cast<uint32_t>(log2 + 15) * 0x04000400u;
}

#ifdef __CUDACC__
// Four float16 times `power`, rounded to nearest even, saturated at 448. Capability 8.9 and up.
__device__ __forceinline__ uint32_t to_e4m3(Half2Bits low, Half2Bits high, Half2Bits power) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t a, b;
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(a) : "r"(h2_mul(low, power)));
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(b) : "r"(h2_mul(high, power)));
  return a | static_cast<uint32_t>(b) << 16;
#else
  __trap();  // DeviceProfile::set_prefill_precision() refuses such devices
  return 0;
#endif
}
#endif

}  // namespace spate::cuda
