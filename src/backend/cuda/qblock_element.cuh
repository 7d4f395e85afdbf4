// One element of a row of the file's own qblocks, on the device, by the formats' own float32 operations in their order
// (quant/*.h, which define the layouts): for rows that are read once, such as embeddings. Products use tiles instead.
//
// element<type>(row, i): row points at whole qblocks, 2-byte aligned, as are all fields of 16 bits within.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>

#include "quant/quant_type.h"

namespace spate::cuda {

template <QuantType>
__device__ float element(const uint8_t* row, int i);

namespace qblock {

__device__ __forceinline__ float half_at(const uint8_t* at) {
  return __half2float(*reinterpret_cast<const __half*>(at));
}
__device__ __forceinline__ int low_bits(uint8_t byte, int shift, int n_bits) {
  return (byte >> shift) & ((1 << n_bits) - 1);
}
// Rounded where the format rounds: the compiler must not fuse them.
__device__ __forceinline__ float times(float a, float b) {
  return __fmul_rn(a, b);
}
__device__ __forceinline__ float times_plus(float a, float b, float c) {
  return __fadd_rn(__fmul_rn(a, b), c);
}

__device__ __forceinline__ float iq4_level(int index) {
  constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return static_cast<float>(kLevels[index]);
}

// Nibble i of 16 bytes: low nibbles are elements 0..15, high ones 16..31.
__device__ __forceinline__ int split_nibble(const uint8_t* qs, int i) {
  return low_bits(qs[i % 16], i / 16 * 4, 4);
}

// The 6-bit scale and minimum of 32 elements of Q4_K and Q5_K (quant/k_scales.h).
__device__ __forceinline__ int k_scale(const uint8_t* bytes, int s) {
  return s < 4 ? bytes[s] & 63 : (bytes[s + 4] & 15) | (bytes[s - 4] >> 6) << 4;
}
__device__ __forceinline__ int k_minimum(const uint8_t* bytes, int s) {
  return s < 4 ? bytes[s + 4] & 63 : (bytes[s + 4] >> 4) | (bytes[s] >> 6) << 4;
}

// w = (d * scale) * code - dmin * minimum.
__device__ __forceinline__ float k_value(const uint8_t* d_dmin, int scale, int minimum, int code) {
  const float factor = times(half_at(d_dmin), static_cast<float>(scale));
  const float offset = times(half_at(d_dmin + 2), static_cast<float>(minimum));
  return times_plus(factor, static_cast<float>(code), -offset);
}

// w = (d * scale) * code.
__device__ __forceinline__ float scaled_value(float d, int scale, float code) {
  return times(times(d, static_cast<float>(scale)), code);
}

}  // namespace qblock

template <>
__device__ __forceinline__ float element<QuantType::kF32>(const uint8_t* row, int i) {
  return reinterpret_cast<const float*>(row)[i];
}

template <>
__device__ __forceinline__ float element<QuantType::kF16>(const uint8_t* row, int i) {
  return qblock::half_at(row + 2 * i);
}

template <>
__device__ __forceinline__ float element<QuantType::kBF16>(const uint8_t* row, int i) {
  return __uint_as_float(static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(row)[i]) << 16);
}

template <>
__device__ __forceinline__ float element<QuantType::kQ4_0>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 18;
  return qblock::times(static_cast<float>(qblock::split_nibble(block + 2, i % 32) - 8), qblock::half_at(block));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ4_1>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 20;
  return qblock::times_plus(static_cast<float>(qblock::split_nibble(block + 4, i % 32)), qblock::half_at(block),
                            qblock::half_at(block + 2));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ5_0>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 22;
  const int j = i % 32;
  const int code = qblock::split_nibble(block + 6, j) | qblock::low_bits(block[2 + j / 8], j % 8, 1) << 4;
  return qblock::times(static_cast<float>(code - 16), qblock::half_at(block));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ5_1>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 24;
  const int j = i % 32;
  const int code = qblock::split_nibble(block + 8, j) | qblock::low_bits(block[4 + j / 8], j % 8, 1) << 4;
  return qblock::times_plus(static_cast<float>(code), qblock::half_at(block), qblock::half_at(block + 2));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ8_0>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 34;
  return qblock::times(static_cast<float>(static_cast<int8_t>(block[2 + i % 32])), qblock::half_at(block));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ2_K>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 84;  // scales[16], qs[64], d, dmin
  const int j = i % 256;
  const uint8_t scale = block[j / 16];
  const int code = qblock::low_bits(block[16 + j / 128 * 32 + j % 32], j / 32 % 4 * 2, 2);
  return qblock::k_value(block + 80, scale & 15, scale >> 4, code);
}

template <>
__device__ __forceinline__ float element<QuantType::kQ3_K>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 110;  // hmask[32], qs[64], scales[12], d
  const int j = i % 256, s = j / 16;
  const uint8_t* scales = block + 96;
  const int scale = qblock::low_bits(scales[s % 8], s / 8 * 4, 4) | qblock::low_bits(scales[8 + s % 4], s / 4 * 2, 2)
                                                                        << 4;
  const int code = qblock::low_bits(block[32 + j / 128 * 32 + j % 32], j / 32 % 4 * 2, 2) |
                   qblock::low_bits(block[j % 32], j / 32, 1) << 2;
  return qblock::scaled_value(qblock::half_at(block + 108), scale - 32, static_cast<float>(code - 4));
}

template <>
__device__ __forceinline__ float element<QuantType::kQ4_K>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 144;  // d, dmin, scales[12], qs[128]
  const int j = i % 256;
  const int code = qblock::low_bits(block[16 + j / 64 * 32 + j % 32], j / 32 % 2 * 4, 4);
  return qblock::k_value(block, qblock::k_scale(block + 4, j / 32), qblock::k_minimum(block + 4, j / 32), code);
}

template <>
__device__ __forceinline__ float element<QuantType::kQ5_K>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 176;  // d, dmin, scales[12], qh[32], qs[128]
  const int j = i % 256;
  const int code = qblock::low_bits(block[48 + j / 64 * 32 + j % 32], j / 32 % 2 * 4, 4) |
                   qblock::low_bits(block[16 + j % 32], j / 32, 1) << 4;
  return qblock::k_value(block, qblock::k_scale(block + 4, j / 32), qblock::k_minimum(block + 4, j / 32), code);
}

template <>
__device__ __forceinline__ float element<QuantType::kQ6_K>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 210;  // ql[128], qh[64], scales[16], d
  const int j = i % 256;
  const int code = qblock::low_bits(block[j / 128 * 64 + j % 64], j / 64 % 2 * 4, 4) |
                   qblock::low_bits(block[128 + j / 128 * 32 + j % 32], j / 32 % 4 * 2, 2) << 4;
  return qblock::scaled_value(qblock::half_at(block + 208), static_cast<int8_t>(block[192 + j / 16]),
                              static_cast<float>(code - 32));
}

template <>
__device__ __forceinline__ float element<QuantType::kIQ4_NL>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 32 * 18;
  return qblock::times(qblock::half_at(block), qblock::iq4_level(qblock::split_nibble(block + 2, i % 32)));
}

template <>
__device__ __forceinline__ float element<QuantType::kIQ4_XS>(const uint8_t* row, int i) {
  const uint8_t* block = row + i / 256 * 136;  // d, scales_h, scales_l[4], qs[128]
  const int j = i % 256, s = j / 32;
  const uint16_t scales_h = *reinterpret_cast<const uint16_t*>(block + 2);
  const int scale = qblock::low_bits(block[4 + s / 2], s % 2 * 4, 4) | ((scales_h >> (2 * s)) & 3) << 4;
  return qblock::scaled_value(qblock::half_at(block), scale - 32,
                              qblock::iq4_level(qblock::split_nibble(block + 8 + 16 * s, j % 32)));
}

}  // namespace spate::cuda
