// How the scales of a weight tile lie behind its codes, and how a lane gets those of a cell (tile_codes.h): a weight is
// scale * code + addend, with one scale a cell or one for each 16 columns (kPer16). Each of these gives kBytes of a
// tile, kAddend (whether minima make an addend, beside the codes' offset), Regs and load() of a lane's share,
// scales<h, rh>(), and pack(), the inverse.
//
// The file's f16 scales are stored times a power of two of the row (PackedMatrix) and times 2^24, which is the unit of
// codes that are read as subnormal float16: in full precision, as they are more often than not in the file. Minima are
// stored negated, times the same; offsets in kOffsetUnit.
#pragma once

#include <bit>

#include "backend/cuda/tile_codes.h"
#include "quant/half.h"

namespace spate::cuda {

// Of columns 0..15 of a cell in the low half and of 16..31 in the high one.
struct ScalePair {
  Half2Bits scale;   // times 2^24
  Half2Bits addend;  // as the weights
};

inline constexpr float kCodeUnit = 0x1p-24f, kStoredScale = 1 / kCodeUnit;
// Offsets of whole weights: near 2^16 they would leave float16's range, and weights' own size wastes it.
inline constexpr float kOffsetUnit = 0x1p-16f;

// What pack() takes of one row's sub-block of 32 columns: weight = d * scale[i] * code - dmin * minimum[i].
struct CellScales {
  float d = 0, dmin = 0;
  int scale[2] = {0, 0}, minimum[2] = {0, 0};
};
using LaneScales = CellScales[2][2];  // [h][rh]

// 2^exponent, within float's normal range.
SPATE_HD inline float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}
SPATE_HD inline uint16_t to_half(float value) {
  return f32_to_f16(value);
}

// One f16 scale for each 32 columns.
struct ScalePer32 {
  static constexpr int kBytes = 256;
  static constexpr bool kAddend = false, kPer16 = false;
  using Regs = Words2;  // by h: rows g and g + 8

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return load2(c.at8 + kAt);
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    return {rh == 0 ? low_twice(r.w[h]) : high_twice(r.w[h]), 0};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    for (int cell = 0; cell < 4; ++cell) {
      const CellScales& of = cells[cell / 2][cell % 2];
      store_as(at + 8 * lane + 2 * cell, to_half(of.d * static_cast<float>(of.scale[0]) * kStoredScale));
    }
  }
};

// An f16 scale and an f16 addend for each 32 columns.
struct ScaleAndOffsetPer32 {
  static constexpr int kBytes = 512;
  static constexpr bool kAddend = true, kPer16 = false;
  using Regs = Words4;  // by cell

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return load4(c.at16 + kAt);
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const Half2Bits both = r.w[2 * h + rh];
    return {low_twice(both), h2_mul(high_twice(both), half2_of(kOffsetUnit))};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    for (int cell = 0; cell < 4; ++cell) {
      const CellScales& of = cells[cell / 2][cell % 2];
      store_as(at + 16 * lane + 4 * cell, to_half(of.d * static_cast<float>(of.scale[0]) * kStoredScale));
      store_as(at + 16 * lane + 4 * cell + 2, to_half(-of.dmin * static_cast<float>(of.minimum[0]) / kOffsetUnit));
    }
  }
};

// Words of 24 bits for rows g and g + 8, a lane's own: 32 bits, then 16.
struct Bits48 {
  uint32_t first;
  uint32_t rest;

  template <int kAt, class Cursor>
  SPATE_HD static Bits48 load(const Cursor& c) {
    return {load_as<uint32_t>(c.at4 + kAt), load_as<uint16_t>(c.at2 + kAt + 128)};
  }
  // Row rh's 24 bits; what stands above them is not cleared.
  template <int rh>
  SPATE_HD uint32_t row() const {
    return rh == 0 ? first : first >> 24 | rest << 8;
  }
  SPATE_HD static void store(uint32_t row0, uint32_t row1, int lane, std::byte* at) {
    store_as(at + 4 * lane, row0 | row1 << 24);
    store_as(at + 128 + 2 * lane, static_cast<uint16_t>(row1 >> 8));
  }
  static constexpr int kBytes = 192;
};

// The f16 d of rows g and g + 8, one value for all lanes of a quad.
struct RowScale {
  static constexpr int kBytes = 32;
  template <int kAt, class Cursor>
  SPATE_HD static Half2Bits load(const Cursor& c) {
    return load_as<uint32_t>(c.quad4 + kAt);
  }
  template <int rh>
  SPATE_HD static Half2Bits twice(Half2Bits rows) {
    return rh == 0 ? low_twice(rows) : high_twice(rows);
  }
  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    if (lane % 4 != 0) return;
    for (int rh = 0; rh < 2; ++rh) store_as(at + lane / 4 * 4 + 2 * rh, to_half(cells[0][rh].d * kStoredScale));
  }
};

// The f16 d and dmin of rows g and g + 8, as (d, -dmin).
struct RowScaleAndMinimum {
  static constexpr int kBytes = 64;
  template <int kAt, class Cursor>
  SPATE_HD static Words2 load(const Cursor& c) {
    return load2(c.quad8 + kAt);
  }
  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    if (lane % 4 != 0) return;
    for (int rh = 0; rh < 2; ++rh) {
      store_as(at + lane / 4 * 8 + 4 * rh, to_half(cells[0][rh].d * kStoredScale));
      store_as(at + lane / 4 * 8 + 4 * rh + 2, to_half(-cells[0][rh].dmin * kStoredScale));
    }
  }
};

// 6-bit scale and 6-bit minimum for each 32 columns, d and dmin a row (Q4_K, Q5_K).
struct SixBitPairsPer32 {
  static constexpr int kBytes = RowScaleAndMinimum::kBytes + Bits48::kBytes;
  static constexpr bool kAddend = true, kPer16 = false;
  struct Regs {
    Words2 d;  // by rh
    Bits48 bits;
  };

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return {RowScaleAndMinimum::load<kAt>(c), Bits48::load<kAt + RowScaleAndMinimum::kBytes>(c)};
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const uint32_t bits = r.bits.row<rh>() >> (12 * h);
    // The scale as an integer, the minimum in the codes' unit.
    constexpr Half2Bits kScaleMagic = kMagic & 0xffff, kTakenOff = half_bits(-1024.0f);
    const uint32_t pair = and_or(bits, 0x3f, and_or(bits << 10, 0x003f0000, kScaleMagic));
    const Half2Bits both = h2_mul(h2_add(pair, kTakenOff), r.d.w[rh]);
    return {low_twice(both), high_twice(both)};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    RowScaleAndMinimum::pack(cells, lane, at);
    uint32_t rows[2] = {0, 0};
    for (int cell = 0; cell < 4; ++cell) {
      const CellScales& of = cells[cell / 2][cell % 2];
      rows[cell % 2] |= static_cast<uint32_t>(of.scale[0] | of.minimum[0] << 6) << (12 * (cell / 2));
    }
    Bits48::store(rows[0], rows[1], lane, at + RowScaleAndMinimum::kBytes);
  }
};

// Signed 8-bit scale (kept plus 128) for each 16 columns, d a row (Q6_K).
struct BytePer16 {
  static constexpr int kBytes = RowScale::kBytes + 256;
  static constexpr bool kAddend = false, kPer16 = true;
  struct Regs {
    Half2Bits d;
    Words2 scales;  // by rh: bytes 2 h, 2 h + 1
  };

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return {RowScale::load<kAt>(c), load2(c.at8 + kAt + RowScale::kBytes)};
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const Half2Bits codes = byte_select(r.scales.w[rh], kMagic, h == 0 ? 0x5150 : 0x5352);
    return {h2_mul(h2_add(codes, half2_of(-1152.0f)), RowScale::twice<rh>(r.d)), 0};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    RowScale::pack(cells, lane, at);
    for (int i = 0; i < 8; ++i) {  // rh, h, which 16 columns
      const int scale = cells[i / 2 % 2][i / 4].scale[i % 2];
      at[RowScale::kBytes + 8 * lane + i] = static_cast<std::byte>(scale + 128);
    }
  }
};

// 4-bit scale and 4-bit minimum for each 16 columns, d and dmin a row (Q2_K).
struct NibblePairsPer16 {
  static constexpr int kBytes = RowScaleAndMinimum::kBytes + 256;
  static constexpr bool kAddend = true, kPer16 = true;
  struct Regs {
    Words2 d;       // by rh
    Words2 scales;  // by rh: bytes 2 h, 2 h + 1, low nibble scale, high nibble minimum
  };

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return {RowScaleAndMinimum::load<kAt>(c), load2(c.at8 + kAt + RowScaleAndMinimum::kBytes)};
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const uint32_t bytes = byte_select(r.scales.w[rh], 0, h == 0 ? 0x4140 : 0x4342);
    const Half2Bits scales = integers<0, 0>(and_or(bytes, 0x000f000f, kMagic));
    const Half2Bits minima = bytes >> 4 & 0x000f000f;  // in the codes' unit
    return {h2_mul(scales, low_twice(r.d.w[rh])), h2_mul(minima, high_twice(r.d.w[rh]))};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    RowScaleAndMinimum::pack(cells, lane, at);
    for (int i = 0; i < 8; ++i) {  // rh, h, which 16 columns
      const CellScales& of = cells[i / 2 % 2][i / 4];
      at[RowScaleAndMinimum::kBytes + 8 * lane + i] = static_cast<std::byte>(of.scale[i % 2] | of.minimum[i % 2] << 4);
    }
  }
};

// 6-bit scale about 32 for each 16 columns, d a row (Q3_K).
struct SixBitsPer16 {
  static constexpr int kBytes = RowScale::kBytes + Bits48::kBytes;
  static constexpr bool kAddend = false, kPer16 = true;
  struct Regs {
    Half2Bits d;
    Bits48 bits;
  };

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return {RowScale::load<kAt>(c), Bits48::load<kAt + RowScale::kBytes>(c)};
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const uint32_t bits = r.bits.row<rh>() >> (12 * h);
    const uint32_t pair = and_or(bits, 0x3f, and_or(bits << 10, 0x003f0000, kMagic));
    return {h2_mul(integers<0, 32>(pair), RowScale::twice<rh>(r.d)), 0};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    RowScale::pack(cells, lane, at);
    uint32_t rows[2] = {0, 0};
    for (int cell = 0; cell < 4; ++cell) {
      const CellScales& of = cells[cell / 2][cell % 2];
      rows[cell % 2] |= static_cast<uint32_t>((of.scale[0] + 32) | (of.scale[1] + 32) << 6) << (12 * (cell / 2));
    }
    Bits48::store(rows[0], rows[1], lane, at + RowScale::kBytes);
  }
};

// 6-bit scale about 32 for each 32 columns, d a row (IQ4_XS): a lane's four in 24 bits, as 16 and 8.
struct SixBitsPer32 {
  static constexpr int kBytes = RowScale::kBytes + 96;
  static constexpr bool kAddend = false, kPer16 = false;
  struct Regs {
    Half2Bits d;
    uint32_t bits;  // 12 by rh, of these 6 by h
  };

  template <int kAt, class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    constexpr int kBits = kAt + RowScale::kBytes;
    return {RowScale::load<kAt>(c), load_as<uint16_t>(c.at2 + kBits) | load_as<uint8_t>(c.at1 + kBits + 64) << 16};
  }

  template <int h, int rh>
  SPATE_HD static ScalePair scales(const Regs& r) {
    const uint32_t code = (r.bits >> (12 * rh + 6 * h) & 0x3f) * 0x10001;
    return {h2_mul(integers<0, 32>(code | kMagic), RowScale::twice<rh>(r.d)), 0};
  }

  SPATE_HD static void pack(const LaneScales& cells, int lane, std::byte* at) {
    RowScale::pack(cells, lane, at);
    uint32_t bits = 0;
    for (int cell = 0; cell < 4; ++cell) {
      const int code = cells[cell / 2][cell % 2].scale[0] + 32;
      bits |= static_cast<uint32_t>(code) << (12 * (cell % 2) + 6 * (cell / 2));
    }
    store_as(at + RowScale::kBytes + 2 * lane, static_cast<uint16_t>(bits));
    store_as(at + RowScale::kBytes + 64 + lane, static_cast<uint8_t>(bits >> 16));
  }
};

}  // namespace spate::cuda
