// Pairs of float16 in a 32-bit register, and the few operations with which weights are decoded. On the host the same
// operations in plain C++, so that every tile format is tested without a GPU.
#pragma once

#include <bit>
#include <cstdint>

#include "backend/cuda/activations.h"
#include "quant/half.h"

namespace spate::cuda {

using Half2Bits = uint32_t;  // two float16, the first in the low half

// A float16 constant in both halves, for values that float16 holds exactly, subnormal ones included.
constexpr uint16_t half_bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const float magnitude = value < 0 ? -value : value;
  if (magnitude < 0x1p-14f)
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | static_cast<uint32_t>(magnitude * 0x1p24f));
  const int exponent = static_cast<int>(bits >> 23 & 255) - 127 + 15;
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}
constexpr Half2Bits half2_of(float value) {
  return half_bits(value) * 0x10001u;
}

#ifdef __CUDA_ARCH__
__device__ __forceinline__ Half2Bits h2_fma(Half2Bits a, Half2Bits b, Half2Bits c) {
  Half2Bits d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ Half2Bits h2_mul(Half2Bits a, Half2Bits b) {
  Half2Bits d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
__device__ __forceinline__ Half2Bits h2_add(Half2Bits a, Half2Bits b) {
  Half2Bits d;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
// Bytes of {high, low} picked by the nibbles of `selector`.
__device__ __forceinline__ uint32_t byte_select(uint32_t low, uint32_t high, uint32_t selector) {
  return __byte_perm(low, high, selector);
}
// The same; a selector's nibble with bit 3 set gives eight times the selected byte's sign bit.
__device__ __forceinline__ uint32_t sign_select(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(low), "r"(high), "r"(selector));
  return d;
}
// The low and the high half of a pair, in both halves. As moves, which the compiler makes part of the instruction that
// takes them; a byte permutation it would leave.
__device__ __forceinline__ Half2Bits low_twice(Half2Bits a) {
  Half2Bits d;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {low, low};}" : "=r"(d) : "r"(a));
  return d;
}
__device__ __forceinline__ Half2Bits high_twice(Half2Bits a) {
  Half2Bits d;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {high, high};}" : "=r"(d) : "r"(a));
  return d;
}
// (a & mask) | b in one instruction.
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(mask), "r"(b));
  return d;
}
#else
namespace host {
inline float low(Half2Bits a) {
  return f16_to_f32(static_cast<uint16_t>(a));
}
inline float high(Half2Bits a) {
  return f16_to_f32(static_cast<uint16_t>(a >> 16));
}
inline Half2Bits pair(double low, double high) {
  return f32_to_f16(static_cast<float>(low)) | static_cast<uint32_t>(f32_to_f16(static_cast<float>(high))) << 16;
}
}  // namespace host
inline Half2Bits h2_fma(Half2Bits a, Half2Bits b, Half2Bits c) {
  using namespace host;
  return pair(double{low(a)} * low(b) + low(c), double{high(a)} * high(b) + high(c));
}
inline Half2Bits h2_mul(Half2Bits a, Half2Bits b) {
  using namespace host;
  return pair(double{low(a)} * low(b), double{high(a)} * high(b));
}
inline Half2Bits h2_add(Half2Bits a, Half2Bits b) {
  using namespace host;
  return pair(double{low(a)} + low(b), double{high(a)} + high(b));
}
inline uint32_t byte_select(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= static_cast<uint32_t>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return out;
}
inline uint32_t sign_select(uint32_t low, uint32_t high, uint32_t selector) {
  const uint32_t bytes = byte_select(low, high, selector);
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t byte = bytes >> (8 * i) & 255;
    const bool sign = (selector >> (4 * i) & 8) != 0;
    out |= (!sign ? byte : byte >= 128 ? 255u : 0u) << (8 * i);
  }
  return out;
}
inline Half2Bits low_twice(Half2Bits a) {
  return (a & 0xffff) * 0x10001;
}
inline Half2Bits high_twice(Half2Bits a) {
  return (a >> 16) * 0x10001;
}
inline uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b) {
  return (a & mask) | b;
}
#endif
// Of a where the mask has ones, of b elsewhere.
SPATE_HD inline uint32_t bit_select(uint32_t mask, uint32_t a, uint32_t b) {
  return (a & mask) | (b & ~mask);
}

// The integers in bits [kShift, ...) of both 16-bit halves of `bits`, already masked and OR-ed with 0x6400 (which makes
// each half 1024 + (integer << kShift), exactly, below 2048): integer - kOffset.
template <int kShift, int kOffset>
SPATE_HD inline Half2Bits integers(uint32_t bits) {
  if constexpr (kShift == 0) {
    return h2_add(bits, half2_of(-1024.0f - kOffset));
  } else {
    constexpr float kUnit = 1.0f / (1 << kShift);
    return h2_fma(bits, half2_of(kUnit), half2_of(-1024.0f * kUnit - kOffset));
  }
}
inline constexpr uint32_t kMagic = 0x64006400;  // 1024 in both halves

}  // namespace spate::cuda
