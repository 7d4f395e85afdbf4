// TileFormat<type>: a quant type's weight tile, from its codes (tile_codes.h) and its scales (tile_scales.h), and how
// both are got from the file's qblocks. A tile has exactly the bytes of its 16 x 256 weights in the file.
#pragma once

#include <type_traits>

#include "backend/cuda/tile_codes.h"
#include "backend/cuda/tile_scales.h"
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

// A lane's weights of one row and one half of a tile, as the tensor cores take them: pair i holds columns 2 i and 2 i
// + 1.
template <class Codes, class Scales>
struct PackedTile {
  using Packed = PackedTile;  // of a TileFormat
  static_assert(Scales::kAddend == (Codes::kOffset == 0));
  static constexpr int kBytes = Codes::kBytes + Scales::kBytes;

  struct Regs {
    typename Codes::Regs codes;
    typename Scales::Regs scales;
  };

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    return {Codes::load(c), Scales::template load<Codes::kBytes>(c)};
  }

  // Of columns 0..15 and 16..31 of a cell; each value twice. scale[u] fits codes of unit u.
  struct Factors {
    Half2Bits scale[Codes::kUnits][2];
    Half2Bits addend[2];
  };

  template <int h, int rh>
  SPATE_HD static Factors factors(const Regs& r) {
    const ScalePair pair = Scales::template scales<h, rh>(r.scales);
    Factors f;
    for (int u = 0; u < Codes::kUnits; ++u) {
      const auto unit = 1.0f / static_cast<float>(1 << (Codes::kUnitStep * u));
      spread(u == 0 ? pair.scale : h2_mul(pair.scale, half2_of(unit)), f.scale[u]);
    }
    spread(Scales::kAddend ? pair.addend : h2_mul(pair.scale, half2_of(-Codes::kOffset * kCodeUnit)), f.addend);
    return f;
  }

  // Columns 8 c .. 8 c + 7 of cell (h, rh).
  template <int h, int rh, int c>
  SPATE_HD static void weights(const Regs& r, const Factors& factors, Half2Bits out[4]) {
    Codes::template pairs<h, rh, c>(r.codes, out);
    for (int i = 0; i < 4; ++i) out[i] = h2_fma(out[i], factors.scale[Codes::unit(i)][c / 2], factors.addend[c / 2]);
  }

  SPATE_HD static void pack(const uint8_t code[4][32], const LaneScales& scales, int lane, std::byte* tile) {
    for (int cell = 0; cell < 4; ++cell) Codes::pack_cell(code[cell], cell / 2, cell % 2, lane, tile);
    Scales::pack(scales, lane, tile + Codes::kBytes);
  }

 private:
  SPATE_HD static void spread(Half2Bits pair, Half2Bits out[2]) {
    out[0] = Scales::kPer16 ? low_twice(pair) : pair;
    out[1] = Scales::kPer16 ? high_twice(pair) : pair;
  }
};

// Float16 weights as they are.
struct HalfTile {
  using Packed = HalfTile;  // of a TileFormat
  static constexpr int kBytes = 8192;

  struct Regs {
    Words4 word[16];  // four a cell, columns in order
  };
  struct Factors {};

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    Regs r;
    for (int i = 0; i < 16; ++i) r.word[i] = load4(c.at16 + 512 * i);
    return r;
  }

  template <int h, int rh>
  SPATE_HD static Factors factors(const Regs&) {
    return {};
  }

  template <int h, int rh, int c>
  SPATE_HD static void weights(const Regs& r, const Factors&, Half2Bits out[4]) {
    for (int i = 0; i < 4; ++i) out[i] = r.word[4 * (2 * h + rh) + c].w[i];
  }

  SPATE_HD static void pack(const uint16_t half[4][32], int lane, std::byte* tile) {
    for (int cell = 0; cell < 4; ++cell)
      for (int n = 0; n < 32; ++n) store_as(tile + 512 * (4 * cell + n / 8) + 16 * lane + 2 * (n % 8), half[cell][n]);
  }
};

template <QuantType>
struct TileFormat;

// read(): what a qblock says of its sub-block s of 32 columns: codes[32] as pack_cell() takes them, and the scales.

SPATE_HD inline void read_nibbles(const uint8_t* qs, uint8_t* code) {
  for (int i = 0; i < 16; ++i) {
    code[i] = qs[i] & 15;
    code[i + 16] = qs[i] >> 4;
  }
}

template <>
struct TileFormat<QuantType::kQ4_0> : PackedTile<NibbleCodes<0, 8>, ScalePer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ4_0>& block, int, uint8_t* code) {
    read_nibbles(block.qs, code);
    return {.d = f16_to_f32(block.d), .scale = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kQ4_1> : PackedTile<NibbleCodes<0, 0>, ScaleAndOffsetPer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ4_1>& block, int, uint8_t* code) {
    read_nibbles(block.qs, code);
    return {.d = f16_to_f32(block.d), .dmin = -f16_to_f32(block.m), .scale = {1, 1}, .minimum = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kQ5_0> : PackedTile<NibbleCodes<1, 16>, ScalePer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ5_0>& block, int, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(i));
    return {.d = f16_to_f32(block.d), .scale = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kQ5_1> : PackedTile<NibbleCodes<1, 0>, ScaleAndOffsetPer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ5_1>& block, int, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(i));
    return {.d = f16_to_f32(block.d), .dmin = -f16_to_f32(block.m), .scale = {1, 1}, .minimum = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kQ8_0> : PackedTile<ByteCodes, ScalePer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ8_0>& block, int, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.qs[i] + 128);
    return {.d = f16_to_f32(block.d), .scale = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kIQ4_NL> : PackedTile<LevelCodes, ScalePer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kIQ4_NL>& block, int, uint8_t* code) {
    read_nibbles(block.qs, code);
    return {.d = f16_to_f32(block.d), .scale = {1, 1}};
  }
};

template <>
struct TileFormat<QuantType::kQ4_K> : PackedTile<NibbleCodes<0, 0>, SixBitPairsPer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ4_K>& block, int s, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(32 * s + i));
    const int scale = block.scales.scale(s), minimum = block.scales.minimum(s);
    return {f16_to_f32(block.d), f16_to_f32(block.dmin), {scale, scale}, {minimum, minimum}};
  }
};

template <>
struct TileFormat<QuantType::kQ5_K> : PackedTile<NibbleCodes<1, 0>, SixBitPairsPer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ5_K>& block, int s, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(32 * s + i));
    const int scale = block.scales.scale(s), minimum = block.scales.minimum(s);
    return {f16_to_f32(block.d), f16_to_f32(block.dmin), {scale, scale}, {minimum, minimum}};
  }
};

template <>
struct TileFormat<QuantType::kQ6_K> : PackedTile<NibbleCodes<2, 32>, BytePer16> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ6_K>& block, int s, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(32 * s + i));
    return {.d = f16_to_f32(block.d), .scale = {block.scales[2 * s], block.scales[2 * s + 1]}};
  }
};

template <>
struct TileFormat<QuantType::kQ3_K> : PackedTile<TwoBitCodes<1, 4>, SixBitsPer16> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ3_K>& block, int s, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(32 * s + i));
    return {.d = f16_to_f32(block.d), .scale = {block.scale_code(2 * s) - 32, block.scale_code(2 * s + 1) - 32}};
  }
};

template <>
struct TileFormat<QuantType::kQ2_K> : PackedTile<TwoBitCodes<0, 0>, NibblePairsPer16> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kQ2_K>& block, int s, uint8_t* code) {
    for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(block.code(32 * s + i));
    const uint8_t first = block.scales[2 * s], second = block.scales[2 * s + 1];
    return {f16_to_f32(block.d), f16_to_f32(block.dmin), {first & 15, second & 15}, {first >> 4, second >> 4}};
  }
};

template <>
struct TileFormat<QuantType::kIQ4_XS> : PackedTile<LevelCodes, SixBitsPer32> {
  SPATE_HD static CellScales read(const Qblock<QuantType::kIQ4_XS>& block, int s, uint8_t* code) {
    read_nibbles(block.qs + 16 * s, code);
    const int scale = block.scale_code(s) - 32;
    return {.d = f16_to_f32(block.d), .scale = {scale, scale}};
  }
};

// F32 and BF16 matrices are float16 on the device.
template <>
struct TileFormat<QuantType::kF16> : HalfTile {
  SPATE_HD static uint16_t read(uint16_t value, float power) { return to_half(f16_to_f32(value) * power); }
};
template <>
struct TileFormat<QuantType::kBF16> : HalfTile {
  SPATE_HD static uint16_t read(uint16_t value, float power) { return to_half(bf16_to_f32(value) * power); }
};
template <>
struct TileFormat<QuantType::kF32> : HalfTile {
  SPATE_HD static uint16_t read(float value, float power) { return to_half(value * power); }
};

// Re-lays a lane's share of one tile. row[rh] is the file's data of the tile's rows g and g + 8 from the tile's first
// column on, or null past the matrix's last row; n_cols, of the matrix from there on, may be less than the tile's. The
// tile decodes to weights times the row's power.
template <QuantType type>
SPATE_HD void pack_lane(const std::byte* const row[2], int n_cols, const float power[2], int lane, std::byte* tile) {
  constexpr bool kHalf = type == QuantType::kF16 || type == QuantType::kBF16 || type == QuantType::kF32;
  if constexpr (kHalf) {
    using Element = std::conditional_t<type == QuantType::kF32, float, uint16_t>;
    uint16_t half[4][32] = {};
    for (int cell = 0; cell < 4; ++cell) {
      const int first = 128 * (cell / 2) + 32 * (lane % 4);
      const auto* from = reinterpret_cast<const Element*>(row[cell % 2]);
      for (int n = 0; n < 32; ++n)
        if (from != nullptr && first + n < n_cols)
          half[cell][n] = TileFormat<type>::read(from[first + n], power[cell % 2]);
    }
    HalfTile::pack(half, lane, tile);
  } else {
    using Block = Qblock<type>;
    uint8_t code[4][32] = {};
    LaneScales scales;
    for (int cell = 0; cell < 4; ++cell) {
      const int s = 4 * (cell / 2) + lane % 4;
      const auto* blocks = reinterpret_cast<const Block*>(row[cell % 2]);
      if (blocks == nullptr || 32 * s >= n_cols) continue;
      constexpr int kSubblocks = Block::kElems / 32;
      CellScales& of = scales[cell / 2][cell % 2];
      of = TileFormat<type>::read(blocks[s / kSubblocks], s % kSubblocks, code[cell]);
      of.d *= power[cell % 2];
      of.dmin *= power[cell % 2];
    }
    TileFormat<type>::pack(code, scales, lane, tile);
  }
}

}  // namespace spate::cuda
