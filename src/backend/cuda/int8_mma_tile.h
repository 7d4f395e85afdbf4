// What a lane does with its share of a weight tile (tile_codes.h) for mma.m16n8k32 of bytes: a cell's 32 codes as eight
// words that stand for integers times a unit, signed where the format's codes have an offset.
//
// That instruction sums over the four lanes of a quad, whose codes belong to four sub-blocks with scales of their own.
// So its eight columns are not eight tokens but two tokens times the quad's four sub-blocks: column 2 q + token of B
// has the token's activations where they meet lane q's codes, and zeros elsewhere. Then each lane gets, in exactly the
// places of C that are its own, the sums of its own sub-block for both tokens: rows g and g + 8, columns 2 q, 2 q + 1.
#pragma once

#include "backend/cuda/gemv_tile.h"

namespace spate::cuda {

// --- Codes as words of bytes, in ByteCodesOf's order.
//
//   kUnit            what a byte is in terms of code - offset
//   kSigned          whether bytes are signed; else there is no offset
//   kSets            words i and i + 8 are of the same columns, and a code is the sum of both
//   words<h, rh>()   the words of a cell
template <class Codes>
struct MmaBytesOf;

// Bytes whose codes have n_bits bits, less half their range: as signed bytes times 2^(8 - n_bits).
template <int n_bits>
SPATE_HD inline uint32_t centred(uint32_t bytes) {
  return (bytes << (8 - n_bits)) ^ 0x80808080;
}

// Nibbles are left where they are or moved up: times 16.
template <int kOffset>
struct MmaBytesOf<NibbleCodes<0, kOffset>> {
  using Codes = NibbleCodes<0, kOffset>;
  static_assert(kOffset == 0 || kOffset == 8);
  static constexpr int kUnit = 16, kSets = 1;
  static constexpr bool kSigned = kOffset != 0;

  template <int h, int rh>
  SPATE_HD static void words(const typename Codes::Regs& r, uint32_t (&out)[8]) {
    constexpr uint32_t kFlip = kSigned ? 0x80808080 : 0;
    for (int c = 0; c < 4; ++c) {
      const uint32_t word = r.low[2 * h + rh].w[c];
      out[2 * c] = (word << 4 & 0xf0f0f0f0) ^ kFlip;
      out[2 * c + 1] = (word & 0xf0f0f0f0) ^ kFlip;
    }
  }
};

template <int kOffset>
struct MmaBytesOf<NibbleCodes<1, kOffset>> {
  using Codes = NibbleCodes<1, kOffset>;
  static_assert(kOffset == 0 || kOffset == 16);
  static constexpr int kUnit = kOffset == 0 ? 1 : 8, kSets = 1;
  static constexpr bool kSigned = kOffset != 0;

  template <int h, int rh>
  SPATE_HD static void words(const typename Codes::Regs& r, uint32_t (&out)[8]) {
    ByteCodesOf<Codes>::template words<h, rh>(r, out);
    if constexpr (kSigned)
      for (uint32_t& word : out) word = centred<5>(word);
  }
};

// Six bits, put together where they are wanted: the nibble in bits 2 to 5, the others above.
template <>
struct MmaBytesOf<NibbleCodes<2, 32>> {
  using Codes = NibbleCodes<2, 32>;
  static constexpr int kUnit = 4, kSets = 1;
  static constexpr bool kSigned = true;

  template <int h, int rh>
  SPATE_HD static void words(const Codes::Regs& r, uint32_t (&out)[8]) {
    const Words4& low = r.low[2 * h + rh];
    for (int i = 0; i < 2; ++i) {  // columns 16 i .. 16 i + 15, as in ByteCodesOf
      const uint32_t even = byte_select(low.w[2 * i], low.w[2 * i + 1], 0x6240);
      const uint32_t odd = byte_select(low.w[2 * i], low.w[2 * i + 1], 0x7351);
      const uint32_t high = r.high[h].w[2 * rh + i];
      uint32_t* to = out + 4 * i;
      to[0] = joined(even << 2, high << 6);
      to[1] = joined(even >> 2, high << 4);
      to[2] = joined(odd << 2, high << 2);
      to[3] = joined(odd >> 2, high);
    }
  }

 private:
  SPATE_HD static uint32_t joined(uint32_t nibbles, uint32_t upper) {
    return (bit_select(0x3c3c3c3c, nibbles, upper) & 0xfcfcfcfc) ^ 0x80808080;
  }
};

template <int kHighBits, int kOffset>
struct MmaBytesOf<TwoBitCodes<kHighBits, kOffset>> {
  using Codes = TwoBitCodes<kHighBits, kOffset>;
  static_assert(kOffset == (kHighBits == 0 ? 0 : 4));
  static constexpr int kUnit = kHighBits == 0 ? 1 : 32, kSets = 1;
  static constexpr bool kSigned = kOffset != 0;

  template <int h, int rh>
  SPATE_HD static void words(const typename Codes::Regs& r, uint32_t (&out)[8]) {
    ByteCodesOf<Codes>::template words<h, rh>(r, out);
    if constexpr (kSigned)
      for (uint32_t& word : out) word = centred<3>(word);
  }
};

template <>
struct MmaBytesOf<LevelCodes> {
  static constexpr int kUnit = 1, kSets = 2;
  static constexpr bool kSigned = true;

  template <int h, int rh>
  SPATE_HD static void words(const LevelCodes::Regs& r, uint32_t (&out)[16]) {
    ByteCodesOf<LevelCodes>::words<h, rh>(r, out);
  }
};

template <>
struct MmaBytesOf<ByteCodes> {
  static constexpr int kUnit = 1, kSets = 1;
  static constexpr bool kSigned = true;

  template <int h, int rh>
  SPATE_HD static void words(const ByteCodes::Regs& r, uint32_t (&out)[8]) {
    ByteCodesOf<ByteCodes>::words<h, rh>(r, out);
    for (uint32_t& word : out) word = centred<8>(word);
  }
};

// --- Activations of pairs of tokens.

// Where a pair's activations of one K tile lie: integers, [token][sub-block][32] with the two 16-byte halves of a
// sub-block exchanged in the second token (so that both tokens are read without a bank conflict); then, by sub-block,
// factors: the scales of both tokens over the codes' unit; for types with minima, of both the sum of the activations,
// or of its first and of its second 16 columns where scales are for 16 columns.
template <class Tile>
struct PairOfTokens {
  using Gemv = GemvTile<Tile>;
  static constexpr int kUnit = MmaBytesOf<typename Gemv::Codes>::kUnit;
  static constexpr bool kPer16 = Gemv::Floats::kPer16, kAddend = Gemv::kAddend;
  static constexpr int kSums = kAddend ? (kPer16 ? 4 : 2) : 0;
  static constexpr int kFactorBytes = kSums == 0 ? 8 : kSums == 2 ? 16 : 32;  // of a sub-block; aligned for one load
  static constexpr int kFactorsAt = 2 * kTileCols;
  static constexpr int kBytes = kFactorsAt + kTileSubblocks * kFactorBytes;

  SPATE_HD static int word_at(int token, int subblock, int v) {
    return token * kTileCols + subblock * kSubblockCols + ((v / 4) ^ token) * 16 + v % 4 * 4;
  }
  // sum0, sum1: of the integers of each 16 columns.
  SPATE_HD static void store_factors(std::byte* pair, int token, int subblock, float scale, int sum0, int sum1) {
    auto* to = reinterpret_cast<float*>(pair + kFactorsAt + subblock * kFactorBytes) + token;
    to[0] = scale * (1.0f / kUnit);
    if constexpr (kSums == 2) to[2] = scale * static_cast<float>(sum0 + sum1);
    if constexpr (kSums == 4) {
      to[2] = scale * static_cast<float>(sum0);
      to[4] = scale * static_cast<float>(sum1);
    }
  }
};

// --- What becomes of the integer sums.

// Of a row's cell.
template <class Tile>
struct CellFactors {
  using Floats = typename GemvTile<Tile>::Floats;
  FloatFactors of;
  float start;  // takes kIntegerMagic away again, exactly: scales have at most 20 bits

  template <int h, int rh>
  SPATE_HD static CellFactors get(const typename Tile::Regs& r) {
    const FloatFactors f = Floats::template factors<h, rh>(r.scales);
    return {f, -kIntegerMagic * f.scale[0]};
  }

  // sums: of the cell's 32 columns, or of its first and its second 16; integers as the bits of floats about
  // kIntegerMagic.
  template <int n>
  SPATE_HD float scaled(const int (&sums)[n]) const {
    const float first = fmaf(std::bit_cast<float>(sums[0]), of.scale[0], start);
    if constexpr (n == 1) return first;
    return fmaf(integer_of(sums[n - 1]), of.scale[n - 1], first);
  }
};

}  // namespace spate::cuda
