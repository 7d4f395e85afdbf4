// How weights lie in a panel: 16 rows re-laid so that lane r of a vector belongs to row r. A panel is a sequence of
// panel blocks along the columns, one where its rows have one qblock each: the same fields and the same number of bytes
// as those 16 qblocks, in another order. And how the activations that meet them lie.
//
// Plain data without a function: this header is compiled with several instruction sets.
#pragma once

#include <cstdint>

#include "quant/quant_type.h"

namespace spate::cpu {

inline constexpr int kPanelRows = 16;
inline constexpr int kActivationBlock = 32;  // columns of activations that share a scale

// 32 columns of one token, as weights of integer qblocks take them. With amax the largest |x| of the block:
// scale = amax / 127, q = x * (127 / amax) rounded to nearest even, each operation in float32. A block whose amax is
// below 2^-100 counts as zeros; one that holds a NaN or an infinity gets scale NaN, so that whatever it touches shows
// it.
struct ActivationBlock {
  int8_t q[kActivationBlock];  // -127..127
  float scale;
  float scaled_sum;      // scale * float(sum): what a block of ones would give, for formats with a minimum
  int32_t sum;           // of q
  int16_t half_sums[2];  // of q[0..15] and q[16..31]
};
static_assert(sizeof(ActivationBlock) == 48);

// Codes of 16 rows x 32 columns. Columns go by groups of 4: byte 4 r + c of a 64-byte vector is column 4 g + c of row
// r, which is the operand that VNNI and AMX multiply. Codes of fewer than 8 bits are cut into planes of 4, 2 and 1
// bits, the low bits in the widest plane.
//   nibbles[v]: low nibbles group v, high nibbles group v + 4
//   pairs[p]: bits 2 j, 2 j + 1 group 4 p + j
//   bits: bit g group g; beside pairs alone, bit kBitOfGroup[g], so that one shift brings the bits of groups j and j +
//   2 to their pairs
inline constexpr int kBitOfGroup[8] = {0, 1, 4, 5, 2, 3, 6, 7};
template <int bits>
struct PanelCodes;
template <>
struct PanelCodes<2> {
  uint8_t pairs[2][64];
};
template <>
struct PanelCodes<3> {
  uint8_t bits[64], pairs[2][64];
};
template <>
struct PanelCodes<4> {
  uint8_t nibbles[4][64];
};
template <>
struct PanelCodes<5> {
  uint8_t bits[64], nibbles[4][64];
};
template <>
struct PanelCodes<6> {
  uint8_t pairs[2][64], nibbles[4][64];
};
template <>
struct PanelCodes<8> {
  uint8_t bytes[8][64];
};

// Two 6-bit numbers a row: `first`, and `second` cut in two.
struct SixBitPairs {
  uint8_t low[16];  // first | (second & 3) << 6
  uint8_t high[8];  // second >> 2 of row r in the low nibble of byte r, of row r + 8 in its high nibble
};

template <QuantType>
struct PanelBlock;

template <>
struct PanelBlock<QuantType::kF32> {
  float value[16];
};
template <>
struct PanelBlock<QuantType::kF16> {
  uint16_t value[16];
};
template <>
struct PanelBlock<QuantType::kBF16> {
  uint16_t value[16];
};
template <>
struct PanelBlock<QuantType::kQ4_0> {
  uint16_t d[16];
  PanelCodes<4> codes[1];
};
template <>
struct PanelBlock<QuantType::kQ4_1> {
  uint16_t d[16], m[16];
  PanelCodes<4> codes[1];
};
template <>
struct PanelBlock<QuantType::kQ5_0> {
  uint16_t d[16];
  PanelCodes<5> codes[1];
};
template <>
struct PanelBlock<QuantType::kQ5_1> {
  uint16_t d[16], m[16];
  PanelCodes<5> codes[1];
};
template <>
struct PanelBlock<QuantType::kQ8_0> {
  uint16_t d[16];
  PanelCodes<8> codes[1];
};
template <>
struct PanelBlock<QuantType::kIQ4_NL> {
  uint16_t d[16];
  PanelCodes<4> codes[1];
};
// In the superblocks, index s is the 32 columns from 32 s.
template <>
struct PanelBlock<QuantType::kQ2_K> {
  uint16_t d[16], dmin[16];
  uint8_t scales[16][16];  // [16-column half of a sub-block][row]: low nibble scale, high nibble minimum
  PanelCodes<2> codes[8];
};
template <>
struct PanelBlock<QuantType::kQ3_K> {
  uint16_t d[16];
  SixBitPairs scales[8];  // first: of columns 32 s .. 32 s + 15; second: of the next 16
  PanelCodes<3> codes[8];
};
template <>
struct PanelBlock<QuantType::kQ4_K> {
  uint16_t d[16], dmin[16];
  SixBitPairs scales[8];  // first: scale; second: minimum
  PanelCodes<4> codes[8];
};
template <>
struct PanelBlock<QuantType::kQ5_K> {
  uint16_t d[16], dmin[16];
  SixBitPairs scales[8];  // first: scale; second: minimum
  PanelCodes<5> codes[8];
};
template <>
struct PanelBlock<QuantType::kQ6_K> {
  uint16_t d[16];
  int8_t scales[16][16];  // [16-column half of a sub-block][row]
  PanelCodes<6> codes[8];
};
template <>
struct PanelBlock<QuantType::kIQ4_XS> {
  uint16_t d[16];
  SixBitPairs scales[4];  // of index p: first sub-block 2 p, second sub-block 2 p + 1
  PanelCodes<4> codes[8];
};

#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  static_assert(sizeof(PanelBlock<QuantType::enumerator>) == 16 * block_bytes, #enumerator);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"

}  // namespace spate::cpu
