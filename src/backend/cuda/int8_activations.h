// Activations as matmul_stream_int8.h multiplies them: int8 with a scale for each 32 columns of a token.
// The same arithmetic on the host, bit for bit, so that tests know what a kernel multiplied.
//
// Of a sub-block of 32 columns x: scale = max |x| / 127, integers round(x / scale), ties to even. They lie as eight
// words of four bytes, in the order in which a format's codes come out of their planes (gemv_tile.h).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "backend/cuda/half2_bits.h"

namespace spate::cuda {

inline constexpr int kSubblockCols = 32;
inline constexpr int kSubblockWords = kSubblockCols / 4;
inline constexpr int kTileSubblocks = kTileCols / kSubblockCols;

// Which columns of a sub-block share a word: in kInFours 4 v .. 4 v + 3, else two neighbouring ones and, between them,
// those four or eight columns on: (0, 4, 1, 5), (2, 6, 3, 7), (8, ...; (0, 8, 1, 9), (2, 10, 3, 11), ...
enum class ByteOrder { kInFours, kFourApart, kEightApart };

// A word's bytes are of two pairs of neighbouring columns. Pair `second` (0, 1) of word v is columns 2 n and 2 n + 1,
// for this n.
SPATE_HD constexpr int pair_of_word(ByteOrder order, int v, int second) {
  switch (order) {
    case ByteOrder::kInFours:
      return 2 * v + second;
    case ByteOrder::kFourApart:
      return v / 2 * 4 + v % 2 + 2 * second;
    case ByteOrder::kEightApart:
      break;
  }
  return v / 4 * 8 + v % 4 + 4 * second;
}

// The column of byte i of word v.
SPATE_HD constexpr int column_of_byte(ByteOrder order, int v, int i) {
  const bool in_fours = order == ByteOrder::kInFours;
  return 2 * pair_of_word(order, v, in_fours ? i / 2 : i % 2) + (in_fours ? i % 2 : i / 2);
}

// Added to a small integer, as a float it makes the float's low bits the integer, rounded to the nearest; added to an
// integer's bits below 2^22 it makes them a float. 1.5 * 2^23, as a float and as its bits.
inline constexpr float kIntegerMagic = 12582912.0f;
inline constexpr int kIntegerMagicBits = 0x4b400000;

// The integer whose sum with kIntegerMagicBits has these bits.
SPATE_HD inline float integer_of(int bits) {
  return std::bit_cast<float>(bits) - kIntegerMagic;
}

// 1 / x, rounded to nearest, of an x > 0 that a float16 can be: an approximation to the last place and one step of
// Newton's with fused multiply-adds are exact unless all bits of the significand are ones (Markstein 1990), without the
// branches that a division has.
SPATE_HD inline float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return fmaf(y, fmaf(-x, y, 1.0f), y);
#else
  return 1.0f / x;
#endif
}

struct Int8Scale {
  float scale, inverse;
};

// Of the sub-block's largest magnitude, a float16. One that is not finite makes the scale so.
SPATE_HD inline Int8Scale int8_scale(float largest) {
  return {largest * (1.0f / 127), largest > 0 ? reciprocal(largest) * 127.0f : 0.0f};
}

// The integer of a column, in the low byte.
SPATE_HD inline uint32_t int8_bits(float x, float inverse) {
  return std::bit_cast<uint32_t>(fmaf(x, inverse, kIntegerMagic));
}

// A word from the bits of its four columns: of pair 0 and of pair 1.
template <ByteOrder order>
SPATE_HD inline uint32_t word_of(const uint32_t (&first)[2], const uint32_t (&second)[2]) {
  const uint32_t a = byte_select(first[0], first[1], 0x0040), b = byte_select(second[0], second[1], 0x0040);
  return byte_select(a, b, order == ByteOrder::kInFours ? 0x5410 : 0x5140);
}

// c plus the products of four unsigned bytes, or four signed ones, with four signed ones.
#ifdef __CUDA_ARCH__
__device__ __forceinline__ int dot_unsigned(uint32_t a, uint32_t b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ int dot_signed(uint32_t a, uint32_t b, int c) {
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ float low_float(Half2Bits a) {
  float f;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(f) : "r"(a));
  return f;
}
__device__ __forceinline__ float high_float(Half2Bits a) {
  float f;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, high;\n}" : "=f"(f) : "r"(a));
  return f;
}
#else
inline int dot_unsigned(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<uint8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
inline int dot_signed(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
inline float low_float(Half2Bits a) {
  return f16_to_f32(static_cast<uint16_t>(a));
}
inline float high_float(Half2Bits a) {
  return f16_to_f32(static_cast<uint16_t>(a >> 16));
}
#endif

}  // namespace spate::cuda
