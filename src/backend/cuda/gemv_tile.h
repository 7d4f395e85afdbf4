// What a lane does with its share of a weight tile (tile_codes.h, tile_scales.h) in a register GEMV: multiplies its 32
// codes of a cell with int8 activations, four at a time, and the integer sum with the cell's scale in float32.
//
// Codes stay unsigned; what they are offset by, and the cell's minimum, act on the sum of the activations' integers,
// which is known beforehand. All integer sums are exact.
#pragma once

#include "backend/cuda/int8_activations.h"
#include "backend/cuda/tile_format.h"

namespace spate::cuda {

// What products with a sub-block of activations need besides its integers. `of`, for the sub-block or for each of its
// halves of 16: for types with minima the sum of the activations, a float's bits; for the others what their integer
// sums start at.
struct alignas(16) SubblockFactors {
  float scale;
  uint32_t of[2];
  uint32_t unused;
};

// A lane's activations of one half of a tile.
struct LaneActivations {
  Words4 word[2];
  SubblockFactors factors;
};

// --- Codes: how those of a cell become words of bytes.
//
//   kOrder            of the columns in these words
//   kOffset           what is subtracted from a code
//   kOddUnit          codes in words of odd number come times this, 1 or 16
//   kWords, kSigned   of a cell; words i and i + 8 are of the same columns, and a code is the sum of both
//   load_half<h>()    loads what is not needed any more when half h of a tile has been multiplied
//   words<h, rh>()    the words of a cell
template <class Codes>
struct ByteCodesOf;

template <int kHighBits, int kNibbleOffset>
struct ByteCodesOf<NibbleCodes<kHighBits, kNibbleOffset>> {
  using Codes = NibbleCodes<kHighBits, kNibbleOffset>;
  static constexpr ByteOrder kOrder = kHighBits == 0 ? ByteOrder::kFourApart : ByteOrder::kEightApart;
  static constexpr int kOffset = kNibbleOffset, kOddUnit = kHighBits == 0 ? 16 : 1, kWords = 8;
  static constexpr bool kSigned = false;

  template <int h, class Cursor>
  SPATE_HD static void load_half(const Cursor& c, typename Codes::Regs& r) {
    for (int rh = 0; rh < 2; ++rh) r.low[2 * h + rh] = load4(c.at16 + 512 * (2 * h + rh));
    if constexpr (kHighBits == 2) r.high[h] = load4(c.at16 + Codes::kLowBytes + 512 * h);
    if constexpr (kHighBits == 1 && h == 1) r.high[0] = load4(c.at16 + Codes::kLowBytes);
  }

  template <int h, int rh>
  SPATE_HD static void words(const typename Codes::Regs& r, uint32_t (&out)[kWords]) {
    const Words4& low = r.low[2 * h + rh];
    if constexpr (kHighBits == 0) {
      for (int c = 0; c < 4; ++c) {
        out[2 * c] = low.w[c] & 0x0f0f0f0f;
        out[2 * c + 1] = low.w[c] & 0xf0f0f0f0;  // not shifted: times 16
      }
    } else {
      for (int i = 0; i < 2; ++i) {  // columns 16 i .. 16 i + 15
        const uint32_t even = byte_select(low.w[2 * i], low.w[2 * i + 1], 0x6240);
        const uint32_t odd = byte_select(low.w[2 * i], low.w[2 * i + 1], 0x7351);
        uint32_t* to = out + 4 * i;
        to[0] = even & 0x0f0f0f0f;
        to[1] = even >> 4 & 0x0f0f0f0f;
        to[2] = odd & 0x0f0f0f0f;
        to[3] = odd >> 4 & 0x0f0f0f0f;
        if constexpr (kHighBits == 2) {
          const uint32_t high = r.high[h].w[2 * rh + i];
          to[0] = and_or(high << 4, 0x30303030, to[0]);
          to[1] = and_or(high, 0x30303030, to[1]);
          to[2] = and_or(high << 2, 0x30303030, to[2]);
          to[3] = and_or(high >> 2, 0x30303030, to[3]);
        } else {
          // Sixteen columns' bits, eight even ones and 16 bits on eight odd ones, to the upper nibbles of four bytes.
          const uint32_t bits = r.high[0].w[2 * h + rh];
          const uint32_t high = i == 0 ? bit_select(0x00ff00ff, bits << 4, bits << 8)  //
                                       : bit_select(0x00ff00ff, bits >> 4, bits);
          for (int v = 0; v < 4; ++v) to[v] = and_or(high >> v, 0x10101010, to[v]);
        }
      }
    }
  }
};

template <int kHighBits, int kTwoBitOffset>
struct ByteCodesOf<TwoBitCodes<kHighBits, kTwoBitOffset>> {
  using Codes = TwoBitCodes<kHighBits, kTwoBitOffset>;
  static constexpr ByteOrder kOrder = ByteOrder::kEightApart;
  static constexpr int kOffset = kTwoBitOffset, kOddUnit = 1, kWords = 8;
  static constexpr bool kSigned = false;

  template <int h, class Cursor>
  SPATE_HD static void load_half(const Cursor& c, typename Codes::Regs& r) {
    r.low[h] = load4(c.at16 + 512 * h);
    if constexpr (kHighBits == 1 && h == 1) r.high[0] = load4(c.at16 + Codes::kLowBytes);
  }

  template <int h, int rh>
  SPATE_HD static void words(const typename Codes::Regs& r, uint32_t (&out)[kWords]) {
    for (int i = 0; i < 2; ++i) {  // columns 16 i .. 16 i + 15
      const uint32_t low = r.low[h].w[2 * rh + i];
      uint32_t* to = out + 4 * i;
      for (int v = 0; v < 4; ++v) to[v] = low >> (2 * v) & 0x03030303;
      if constexpr (kHighBits == 1) {
        // As above, to the lower nibbles.
        const uint32_t bits = r.high[0].w[2 * h + rh];
        const uint32_t high = i == 0 ? bit_select(0x00ff00ff, bits, bits << 4)  //
                                     : bit_select(0x00ff00ff, bits >> 8, bits >> 4);
        to[0] = and_or(high << 2, 0x04040404, to[0]);
        to[1] = and_or(high << 1, 0x04040404, to[1]);
        to[2] = and_or(high, 0x04040404, to[2]);
        to[3] = and_or(high >> 1, 0x04040404, to[3]);
      }
    }
  }
};

// Levels of codes 0..7 are negative, the others positive. A byte permutation whose selector has bit 3 set gives the
// sign of the byte it selects: of a negative table -1, of a positive one 0. So codes look themselves up in the lower
// table, and with bit 3 inverted in the upper one, which holds its levels plus 1.
template <>
struct ByteCodesOf<LevelCodes> {
  static constexpr ByteOrder kOrder = ByteOrder::kInFours;
  static constexpr int kOffset = 0, kOddUnit = 1, kWords = 16;
  static constexpr bool kSigned = true;

  template <int h, class Cursor>
  SPATE_HD static void load_half(const Cursor& c, LevelCodes::Regs& r) {
    for (int rh = 0; rh < 2; ++rh) r.word[2 * h + rh] = load4(c.at16 + 512 * (2 * h + rh));
  }

  template <int h, int rh>
  SPATE_HD static void words(const LevelCodes::Regs& r, uint32_t (&out)[kWords]) {
    constexpr uint32_t kSigns = 0x80808080, kOnes = 0x01010101;
    constexpr uint32_t kLower[2] = {LevelCodes::kTable[0] ^ kSigns, LevelCodes::kTable[1] ^ kSigns};
    constexpr uint32_t kUpper[2] = {(LevelCodes::kTable[2] ^ kSigns) + kOnes, (LevelCodes::kTable[3] ^ kSigns) + kOnes};
    for (int c = 0; c < 4; ++c) {
      const uint32_t codes = r.word[2 * h + rh].w[c], inverted = codes ^ 0x88888888;
      for (int i = 0; i < 2; ++i) {
        out[2 * c + i] = sign_select(kLower[0], kLower[1], codes >> (16 * i));
        out[8 + 2 * c + i] = sign_select(kUpper[0], kUpper[1], inverted >> (16 * i));
      }
    }
  }
};

template <>
struct ByteCodesOf<ByteCodes> {
  static constexpr ByteOrder kOrder = ByteOrder::kInFours;
  static constexpr int kOffset = 128, kOddUnit = 1, kWords = 8;
  static constexpr bool kSigned = false;

  template <int h, class Cursor>
  SPATE_HD static void load_half(const Cursor& c, ByteCodes::Regs& r) {
    for (int i = 4 * h; i < 4 * h + 4; ++i) r.word[i] = load4(c.at16 + 512 * i);
  }

  template <int h, int rh>
  SPATE_HD static void words(const ByteCodes::Regs& r, uint32_t (&out)[kWords]) {
    for (int v = 0; v < 8; ++v) out[v] = r.word[2 * (2 * h + rh) + v / 4].w[v % 4];
  }
};

// --- Scales: those of a cell as float32. A weight is scale * code + addend.

struct FloatFactors {
  float scale[2], addend[2];
};

// The integer in the low 23 bits of `bits`, already masked and OR-ed with kFloatMagic, less kOffset; times kCodeUnit,
// in which scales are stored.
inline constexpr uint32_t kFloatMagic = 0x3f000000;  // 0.5, whose last bit is kCodeUnit
static_assert(kCodeUnit == 0x1p-24f);
template <int kOffset>
SPATE_HD inline float integer(uint32_t bits) {
  return std::bit_cast<float>(bits) - (0.5f + kOffset * kCodeUnit);
}

// kPer16: whether a cell has two of each; factors<h, rh>().
template <class Scales>
struct FloatScalesOf;

template <>
struct FloatScalesOf<ScalePer32> {
  static constexpr bool kPer16 = false;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const ScalePer32::Regs& r) {
    return {{(rh == 0 ? low_float(r.w[h]) : high_float(r.w[h])) * kCodeUnit, 0}, {0, 0}};
  }
};

template <>
struct FloatScalesOf<ScaleAndOffsetPer32> {
  static constexpr bool kPer16 = false;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const ScaleAndOffsetPer32::Regs& r) {
    const Half2Bits both = r.w[2 * h + rh];
    return {{low_float(both) * kCodeUnit, 0}, {high_float(both) * kOffsetUnit, 0}};
  }
};

template <>
struct FloatScalesOf<SixBitPairsPer32> {
  static constexpr bool kPer16 = false;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const SixBitPairsPer32::Regs& r) {
    const uint32_t bits = r.bits.template row<rh>() >> (12 * h);
    const float scale = integer<0>(and_or(bits, 0x3f, kFloatMagic));
    const float minimum = integer<0>(and_or(bits, 0xfc0, kFloatMagic));  // times 64
    return {{scale * low_float(r.d.w[rh]), 0}, {minimum * (high_float(r.d.w[rh]) * (1.0f / 64)), 0}};
  }
};

template <>
struct FloatScalesOf<BytePer16> {
  static constexpr bool kPer16 = true;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const BytePer16::Regs& r) {
    const float d = rh == 0 ? low_float(r.d) : high_float(r.d);
    const uint32_t bytes = r.scales.w[rh];
    return {{integer<128>(byte_select(bytes, kFloatMagic, h == 0 ? 0x7650 : 0x7652)) * d,
             integer<128>(byte_select(bytes, kFloatMagic, h == 0 ? 0x7651 : 0x7653)) * d},
            {0, 0}};
  }
};

template <>
struct FloatScalesOf<NibblePairsPer16> {
  static constexpr bool kPer16 = true;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const NibblePairsPer16::Regs& r) {
    const float d = low_float(r.d.w[rh]), minimum16 = high_float(r.d.w[rh]) * (1.0f / 16);
    FloatFactors f{};
    for (int i = 0; i < 2; ++i) {
      const uint32_t bits = r.scales.w[rh] >> (16 * h + 8 * i);
      f.scale[i] = integer<0>(and_or(bits, 0x0f, kFloatMagic)) * d;
      f.addend[i] = integer<0>(and_or(bits, 0xf0, kFloatMagic)) * minimum16;
    }
    return f;
  }
};

template <>
struct FloatScalesOf<SixBitsPer16> {
  static constexpr bool kPer16 = true;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const SixBitsPer16::Regs& r) {
    const float d = rh == 0 ? low_float(r.d) : high_float(r.d);
    const uint32_t bits = r.bits.template row<rh>() >> (12 * h);
    const float first = integer<32>(and_or(bits, 0x3f, kFloatMagic));
    const float second = integer<32 * 64>(and_or(bits, 0xfc0, kFloatMagic));  // times 64
    return {{first * d, second * (d * (1.0f / 64))}, {0, 0}};
  }
};

template <>
struct FloatScalesOf<SixBitsPer32> {
  static constexpr bool kPer16 = false;
  template <int h, int rh>
  SPATE_HD static FloatFactors factors(const SixBitsPer32::Regs& r) {
    const float d = rh == 0 ? low_float(r.d) : high_float(r.d);
    return {{integer<32>(and_or(r.bits >> (12 * rh + 6 * h), 0x3f, kFloatMagic)) * d, 0}, {0, 0}};
  }
};

// --- A tile of both.

template <class Tile>
struct GemvTile;

template <class Codes, class Scales>
struct GemvTile<PackedTile<Codes, Scales>> {
  using Tile = PackedTile<Codes, Scales>;
  using Regs = typename Tile::Regs;
  using Bytes = ByteCodesOf<Codes>;
  using Floats = FloatScalesOf<Scales>;
  static constexpr int kBytes = Tile::kBytes;
  static constexpr ByteOrder kOrder = Bytes::kOrder;

  // Both halves together load a tile. Half h may be loaded for the next tile once half h of this one has been
  // multiplied.
  template <int h, class Cursor>
  SPATE_HD static void load_half(const Cursor& c, Regs& r) {
    Bytes::template load_half<h>(c, r.codes);
    if constexpr (h == 1) r.scales = Scales::template load<Codes::kBytes>(c);
  }

  // For activations with sums sum[i] of the integers of columns 16 i .. 16 i + 15.
  SPATE_HD static SubblockFactors subblock_factors(float scale, int sum0, int sum1) {
    const int first = Floats::kPer16 ? sum0 : sum0 + sum1;
    if constexpr (Scales::kAddend) {
      return {scale * (1.0f / Bytes::kOddUnit),
              {std::bit_cast<uint32_t>(scale * static_cast<float>(first)),
               std::bit_cast<uint32_t>(scale * static_cast<float>(sum1))},
              0};
    } else {
      constexpr int kUnits = Bytes::kOffset * Bytes::kOddUnit;
      return {scale * (1.0f / Bytes::kOddUnit),
              {static_cast<uint32_t>(kIntegerMagicBits - kUnits * first),
               static_cast<uint32_t>(kIntegerMagicBits - kUnits * sum1)},
              0};
    }
  }

  // Adds the products of cell (h, rh) with each token's activations of half h.
  template <int h, int rh, int kTokens>
  SPATE_HD static void add_cell(const Regs& r, const LaneActivations (&x)[kTokens], float (&sum)[kTokens]) {
    static_assert(!Scales::kAddend || Bytes::kOffset == 0);
    uint32_t w[Bytes::kWords];
    Bytes::template words<h, rh>(r.codes, w);
    const FloatFactors f = Floats::template factors<h, rh>(r.scales);
    for (int token = 0; token < kTokens; ++token) {
      const SubblockFactors& of = x[token].factors;
      if constexpr (Floats::kPer16) {
        const float first = integer_of(dot<0, 1>(w, x[token], start(of.of[0])));
        const float second = integer_of(dot<1, 2>(w, x[token], start(of.of[1])));
        sum[token] += of.scale * (first * f.scale[0] + second * f.scale[1]);
      } else {
        sum[token] += integer_of(dot<0, 2>(w, x[token], start(of.of[0]))) * of.scale * f.scale[0];
      }
      if constexpr (Scales::kAddend) {
        sum[token] += f.addend[0] * std::bit_cast<float>(of.of[0]);
        if constexpr (Floats::kPer16) sum[token] += f.addend[1] * std::bit_cast<float>(of.of[1]);
      }
    }
  }

 private:
  SPATE_HD static int start(uint32_t of) { return Scales::kAddend ? kIntegerMagicBits : static_cast<int>(of); }

  // `sum` plus kOddUnit times the products of the integers in columns [16 from, 16 to).
  template <int from, int to>
  SPATE_HD static int dot(const uint32_t (&w)[Bytes::kWords], const LaneActivations& x, int sum) {
    int even = 0;  // of words whose codes are not in kOddUnit
    for (int i = 0; i < Bytes::kWords; ++i) {
      const int v = i % kSubblockWords;
      if (v / 4 < from || v / 4 >= to) continue;
      int& to_add = Bytes::kOddUnit != 1 && v % 2 == 0 ? even : sum;
      to_add = Bytes::kSigned ? dot_signed(w[i], x.word[v / 4].w[v % 4], to_add)
                              : dot_unsigned(w[i], x.word[v / 4].w[v % 4], to_add);
    }
    return sum + even * Bytes::kOddUnit;
  }
};

}  // namespace spate::cuda
