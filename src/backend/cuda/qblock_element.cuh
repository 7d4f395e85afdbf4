// One element of a row of the file's own qblocks, on the device, for rows that are read once, such as embeddings
// (products use tiles instead). The layouts are quant/'s; the arithmetic is its decode's, rounding where that rounds:
// the compiler must not fuse multiplications and additions here.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>

#include "quant/floats.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace spate::cuda {

namespace qblock {

__device__ __forceinline__ float half_value(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
__device__ __forceinline__ float as_float(int code) {
  return static_cast<float>(code);
}
__device__ __forceinline__ float product_plus(float a, float b, float c) {
  return __fadd_rn(__fmul_rn(a, b), c);
}

// Nibble i of 16 bytes whose low nibbles are elements 0..15 and whose high ones are 16..31.
__device__ __forceinline__ int split_nibble(const uint8_t* qs, int i) {
  return (qs[i % 16] >> (i / 16 * 4)) & 15;
}

// (d * scale) * code.
__device__ __forceinline__ float scaled(uint16_t d, int scale, float code) {
  return __fmul_rn(__fmul_rn(half_value(d), as_float(scale)), code);
}

// (d * scale) * code - dmin * minimum.
__device__ __forceinline__ float scaled_above(uint16_t d, int scale, uint16_t dmin, int minimum, int code) {
  return product_plus(__fmul_rn(half_value(d), as_float(scale)), as_float(code),
                      -__fmul_rn(half_value(dmin), as_float(minimum)));
}

// Eight of IQ4's levels in one word: device code cannot index the host's table.
constexpr uint64_t packed_levels(int first) {
  uint64_t word = 0;
  for (int i = 0; i < 8; ++i) word |= static_cast<uint64_t>(static_cast<uint8_t>(kIq4Levels[first + i])) << (8 * i);
  return word;
}
__device__ __forceinline__ float iq4_level(int index) {
  constexpr uint64_t kLow = packed_levels(0), kHigh = packed_levels(8);
  return as_float(static_cast<int8_t>((index < 8 ? kLow : kHigh) >> (8 * (index % 8))));
}

// Element i of a qblock; one overload a format. The float formats hold one element.
using enum QuantType;

__device__ __forceinline__ float decode(const Qblock<kF32>& b, int) {
  return b.value;
}
__device__ __forceinline__ float decode(const Qblock<kF16>& b, int) {
  return half_value(b.value);
}
__device__ __forceinline__ float decode(const Qblock<kBF16>& b, int) {
  return __uint_as_float(static_cast<uint32_t>(b.value) << 16);
}
__device__ __forceinline__ float decode(const Qblock<kQ4_0>& b, int i) {
  return __fmul_rn(as_float(split_nibble(b.qs, i) - 8), half_value(b.d));
}
__device__ __forceinline__ float decode(const Qblock<kQ4_1>& b, int i) {
  return product_plus(as_float(split_nibble(b.qs, i)), half_value(b.d), half_value(b.m));
}
__device__ __forceinline__ float decode(const Qblock<kQ5_0>& b, int i) {
  return __fmul_rn(as_float(b.code(i) - 16), half_value(b.d));
}
__device__ __forceinline__ float decode(const Qblock<kQ5_1>& b, int i) {
  return product_plus(as_float(b.code(i)), half_value(b.d), half_value(b.m));
}
__device__ __forceinline__ float decode(const Qblock<kQ8_0>& b, int i) {
  return __fmul_rn(as_float(b.qs[i]), half_value(b.d));
}
__device__ __forceinline__ float decode(const Qblock<kQ2_K>& b, int i) {
  const uint8_t scale = b.scales[i / 16];
  return scaled_above(b.d, scale & 15, b.dmin, scale >> 4, b.code(i));
}
__device__ __forceinline__ float decode(const Qblock<kQ3_K>& b, int i) {
  return scaled(b.d, b.scale_code(i / 16) - 32, as_float(b.code(i) - 4));
}
__device__ __forceinline__ float decode(const Qblock<kQ4_K>& b, int i) {
  return scaled_above(b.d, b.scales.scale(i / 32), b.dmin, b.scales.minimum(i / 32), b.code(i));
}
__device__ __forceinline__ float decode(const Qblock<kQ5_K>& b, int i) {
  return scaled_above(b.d, b.scales.scale(i / 32), b.dmin, b.scales.minimum(i / 32), b.code(i));
}
__device__ __forceinline__ float decode(const Qblock<kQ6_K>& b, int i) {
  return scaled(b.d, b.scales[i / 16], as_float(b.code(i) - 32));
}
__device__ __forceinline__ float decode(const Qblock<kIQ4_NL>& b, int i) {
  return __fmul_rn(half_value(b.d), iq4_level(split_nibble(b.qs, i)));
}
__device__ __forceinline__ float decode(const Qblock<kIQ4_XS>& b, int i) {
  return scaled(b.d, b.scale_code(i / 32) - 32, iq4_level(split_nibble(b.qs + i / 32 * 16, i % 32)));
}

}  // namespace qblock

// Element i of a row of whole qblocks, which is as aligned as a qblock's fields.
template <QuantType type>
__device__ __forceinline__ float element(const std::byte* row, int i) {
  using Block = Qblock<type>;
  return qblock::decode(reinterpret_cast<const Block*>(row)[i / Block::kElems], i % Block::kElems);
}

}  // namespace spate::cuda
