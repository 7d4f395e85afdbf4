// How the codes of a weight tile lie, and how a lane decodes its own.
//
// A tile is 16 rows by 256 columns. Lane l of a warp, g = l / 4 and t = l % 4, owns four cells: rows g and g + 8 (rh =
// 0, 1), in each half (h = 0, 1) columns 128 h + 32 t .. + 31: whole sub-blocks of 32, so scales are the lane's own,
// and exactly the elements that mma.m16n8k16 and wgmma want in its A registers, with K permuted alike in the
// activations (activations.h). A load of a warp is contiguous.
//
// Each of these "codes" gives: kBytes of a tile; Regs, a lane's share; load(); pairs<h, rh, c>(), columns 8 c .. 8 c +
// 7 of a cell as four pairs of codes; and pack_cell(), the inverse, from code[32].
//
// A pair of codes is masked out of its word and left where it was, in bits kUnitStep * u and up of either half, u =
// unit(pair). Codes end below bit 10, so that such a half, read as float16, is subnormal and code * 2^(kUnitStep * u -
// 24) exactly: a multiply-add with the scale times 2^(24 - kUnitStep * u) gives the weight, rounded once, without a
// conversion of the code before it. kUnits: how many u there are. kOffset: what is subtracted from a code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cuda/half2_bits.h"

namespace spate::cuda {

struct alignas(8) Words2 {
  uint32_t w[2];
};
struct alignas(16) Words4 {
  uint32_t w[4];
};

// 16, 8 and 4 bytes of weights, which are read once a step: past the first-level cache.
#ifdef __CUDA_ARCH__
__device__ __forceinline__ Words4 load4(const std::byte* at) {
  Words4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(at));
  return v;
}
__device__ __forceinline__ Words2 load2(const std::byte* at) {
  Words2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.w[0]), "=r"(v.w[1]) : "l"(at));
  return v;
}
template <typename T>
__device__ __forceinline__ uint32_t load_as(const std::byte* at) {
  return __ldg(reinterpret_cast<const T*>(at));
}
#else
inline Words4 load4(const std::byte* at) {
  Words4 v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
inline Words2 load2(const std::byte* at) {
  Words2 v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
template <typename T>
inline uint32_t load_as(const std::byte* at) {
  T v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
#endif

// The same from a tile that lies in shared memory.
struct SharedBytes {
  const std::byte* at;
  SPATE_HD SharedBytes operator+(int64_t n_bytes) const { return {at + n_bytes}; }
};
template <typename T>
SPATE_HD inline T load_shared(SharedBytes from) {
  return *reinterpret_cast<const T*>(from.at);
}
SPATE_HD inline Words4 load4(SharedBytes from) {
  return load_shared<Words4>(from);
}
SPATE_HD inline Words2 load2(SharedBytes from) {
  return load_shared<Words2>(from);
}
template <typename T>
SPATE_HD inline uint32_t load_as(SharedBytes from) {
  return load_shared<T>(from);
}

template <typename T>
SPATE_HD inline void store_as(std::byte* at, T value) {
  memcpy(at, &value, sizeof value);
}

// Where a lane finds its share of a tile. Planes are of 16, 8, 4, 2 or 1 bytes a lane, or of a value a quad; one
// pointer for each kind, so that every load has a constant offset. What a format does not use, the compiler drops.
struct LaneCursor {
  const std::byte *at16, *at8, *at4, *at2, *at1;
  const std::byte *quad8, *quad4;

  SPATE_HD static LaneCursor at(const std::byte* tile, int lane) {
    LaneCursor c{tile + 16 * lane, tile + 8 * lane,     tile + 4 * lane,    tile + 2 * lane,
                 tile + lane,      tile + lane / 4 * 8, tile + lane / 4 * 4};
#ifdef __CUDA_ARCH__
    // Else the compiler computes them anew from the tile's address at every load.
    asm("" : "+l"(c.at16));
    asm("" : "+l"(c.at8));
    asm("" : "+l"(c.at4));
    asm("" : "+l"(c.at2));
    asm("" : "+l"(c.at1));
    asm("" : "+l"(c.quad8));
    asm("" : "+l"(c.quad4));
#endif
    return c;
  }

  SPATE_HD void advance(int64_t n_bytes) {
    at16 += n_bytes;
    at8 += n_bytes;
    at4 += n_bytes;
    at2 += n_bytes;
    at1 += n_bytes;
    quad8 += n_bytes;
    quad4 += n_bytes;
  }
};

// The same of a tile in shared memory, 16-byte aligned.
struct SharedCursor {
  SharedBytes at16, at8, at4, at2, at1;
  SharedBytes quad8, quad4;

  SPATE_HD static SharedCursor at(const std::byte* tile, int lane) {
    return {{tile + 16 * lane}, {tile + 8 * lane},     {tile + 4 * lane},    {tile + 2 * lane},
            {tile + lane},      {tile + lane / 4 * 8}, {tile + lane / 4 * 4}};
  }
};

// Bit `index` of each half of `plane` moved to bit `kTo`, other bits whatever they are.
template <int kFrom, int kTo>
SPATE_HD inline uint32_t moved(uint32_t plane) {
  if constexpr (kFrom >= kTo) {
    return plane >> (kFrom - kTo);
  } else {
    return plane << (kTo - kFrom);
  }
}

// Codes of 4 + kHighBits bits: a plane of nibbles (16 bytes a cell), then one of the bits above them (4 bytes a cell
// for one bit, 8 for two). Of a word of eight columns, pair j is nibbles j and j + 4, so one mask serves both halves.
template <int kHighBits, int kCodeOffset>
struct NibbleCodes {
  static constexpr int kUnits = 2, kUnitStep = 4, kOffset = kCodeOffset;
  static constexpr int kLowBytes = 2048;
  static constexpr int kBytes = kLowBytes + 512 * kHighBits;

  struct Regs {
    Words4 low[4];                                // by cell, 2 h + rh
    Words4 high[kHighBits == 0 ? 1 : kHighBits];  // one bit: a word a cell; two: two words a cell
  };

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    Regs r;
    for (int cell = 0; cell < 4; ++cell) r.low[cell] = load4(c.at16 + 512 * cell);
    for (int i = 0; i < kHighBits; ++i) r.high[i] = load4(c.at16 + kLowBytes + 512 * i);
    return r;
  }

  template <int h, int rh, int c>
  SPATE_HD static void pairs(const Regs& r, Half2Bits out[4]) {
    const uint32_t low = r.low[2 * h + rh].w[c], upper = low >> 8;
    out[0] = with_high<h, rh, c, 0>(r, low & 0x000f000f);
    out[1] = with_high<h, rh, c, 1>(r, low & 0x00f000f0);
    out[2] = with_high<h, rh, c, 2>(r, upper & 0x000f000f);
    out[3] = with_high<h, rh, c, 3>(r, upper & 0x00f000f0);
  }
  SPATE_HD static constexpr int unit(int pair) { return pair % 2; }

  SPATE_HD static void pack_cell(const uint8_t* code, int h, int rh, int lane, std::byte* tile) {
    Words4 low = {};
    Words2 high = {};
    for (int n = 0; n < 32; ++n) {
      const int pair = n / 2, odd = n % 2;
      low.w[n / 8] |= static_cast<uint32_t>(code[n] & 15) << (4 * (pair % 4) + 16 * odd);
      if constexpr (kHighBits == 1) high.w[0] |= static_cast<uint32_t>(code[n] >> 4) << (pair + 16 * odd);
      if constexpr (kHighBits == 2)
        high.w[n / 16] |= static_cast<uint32_t>(code[n] >> 4) << (2 * high_place(pair % 8) + 16 * odd);
    }
    const int cell = 2 * h + rh;
    store_as(tile + 512 * cell + 16 * lane, low);
    if constexpr (kHighBits == 1) store_as(tile + kLowBytes + 16 * lane + 4 * cell, high.w[0]);
    if constexpr (kHighBits == 2) store_as(tile + kLowBytes + 512 * h + 16 * lane + 8 * rh, high);
  }

 private:
  // Of eight pairs, where one's two bits lie, in twos: so that one shift serves a pair above bit 0 and one above bit 4.
  SPATE_HD static constexpr int high_place(int pair) { return (pair & 4) | (pair & 1) << 1 | (pair >> 1 & 1); }

  template <int h, int rh, int c, int j>
  SPATE_HD static uint32_t with_high(const Regs& r, uint32_t low) {
    constexpr int kTo = j % 2 == 0 ? 4 : 8;  // above the nibble, which lies at bit 0 or 4
    constexpr int kPair = 4 * c + j;
    if constexpr (kHighBits == 1) {
      return and_or(moved<kPair, kTo>(r.high[0].w[2 * h + rh]), 0x00010001u << kTo, low);
    } else if constexpr (kHighBits == 2) {
      return and_or(moved<2 * high_place(kPair % 8), kTo>(r.high[h].w[2 * rh + c / 2]), 0x00030003u << kTo, low);
    } else {
      return low;
    }
  }
};

// Codes of 2 + kHighBits bits: a plane of two bits a code (8 bytes a cell), then one of the bit above.
template <int kHighBits, int kCodeOffset>
struct TwoBitCodes {
  static constexpr int kUnits = 2, kUnitStep = 4, kOffset = kCodeOffset;
  static constexpr int kLowBytes = 1024;
  static constexpr int kBytes = kLowBytes + 512 * kHighBits;

  struct Regs {
    Words4 low[2];   // by h: two words a cell
    Words4 high[1];  // a word a cell
  };

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    Regs r;
    for (int h = 0; h < 2; ++h) r.low[h] = load4(c.at16 + 512 * h);
    if constexpr (kHighBits == 1) r.high[0] = load4(c.at16 + kLowBytes);
    return r;
  }

  template <int h, int rh, int c>
  SPATE_HD static void pairs(const Regs& r, Half2Bits out[4]) {
    const uint32_t word = r.low[h].w[2 * rh + c / 2];
    // Scales for each of the four places would take more registers than a shift is worth.
    const uint32_t even = c % 2 == 0 ? word : word >> 8, odd = c % 2 == 0 ? word >> 2 : word >> 10;
    const uint32_t high = r.high[0].w[2 * h + rh];
    out[0] = with_high<4 * c + 0, 2>(high, even & 0x00030003);
    out[1] = with_high<4 * c + 1, 2>(high, odd & 0x00030003);
    out[2] = with_high<4 * c + 2, 6>(high, even & 0x00300030);
    out[3] = with_high<4 * c + 3, 6>(high, odd & 0x00300030);
  }
  SPATE_HD static constexpr int unit(int pair) { return pair / 2; }

  SPATE_HD static void pack_cell(const uint8_t* code, int h, int rh, int lane, std::byte* tile) {
    Words2 low = {};
    uint32_t high = 0;
    for (int n = 0; n < 32; ++n) {
      const int pair = n / 2, odd = n % 2;
      low.w[n / 16] |= static_cast<uint32_t>(code[n] & 3) << (2 * (pair % 8) + 16 * odd);
      high |= static_cast<uint32_t>(code[n] >> 2) << (pair + 16 * odd);
    }
    store_as(tile + 512 * h + 16 * lane + 8 * rh, low);
    if constexpr (kHighBits == 1) store_as(tile + kLowBytes + 16 * lane + 4 * (2 * h + rh), high);
  }

 private:
  template <int kPair, int kTo>
  SPATE_HD static uint32_t with_high(uint32_t high, uint32_t low) {
    if constexpr (kHighBits == 0) {
      return low;
    } else {
      return and_or(moved<kPair, kTo>(high), 0x00010001u << kTo, low);
    }
  }
};

// 4-bit codes into the sixteen levels of the IQ4 types (quant/iq4_nl.h), which are kept plus 128 as bytes in four
// registers. Nibble i of a word is column i.
struct LevelCodes {
  static constexpr int kUnits = 1, kUnitStep = 0, kOffset = 128;
  static constexpr int kBytes = 2048;

  struct Regs {
    Words4 word[4];
  };

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    Regs r;
    for (int cell = 0; cell < 4; ++cell) r.word[cell] = load4(c.at16 + 512 * cell);
    return r;
  }

  template <int h, int rh, int c>
  SPATE_HD static void pairs(const Regs& r, Half2Bits out[4]) {
    const uint32_t word = r.word[2 * h + rh].w[c];
    levels(word, out);
    levels(word >> 16, out + 2);
  }
  SPATE_HD static constexpr int unit(int) { return 0; }

  SPATE_HD static void pack_cell(const uint8_t* code, int h, int rh, int lane, std::byte* tile) {
    Words4 word = {};
    for (int n = 0; n < 32; ++n) word.w[n / 8] |= static_cast<uint32_t>(code[n]) << (4 * (n % 8));
    store_as(tile + 512 * (2 * h + rh) + 16 * lane, word);
  }

  // Level i + 128 in byte i.
  static constexpr uint32_t kTable[4] = {0x3f2d1801, 0x766a5d4f, 0xa6998d81, 0xf1d9c5b5};

 private:
  // Columns of the four low nibbles.
  SPATE_HD static void levels(uint32_t nibbles, Half2Bits out[2]) {
    const uint32_t index = nibbles & 0x7777;
    const uint32_t lower = byte_select(kTable[0], kTable[1], index), upper = byte_select(kTable[2], kTable[3], index);
    // Bit 3 of a nibble chooses between byte i of the one and of the other.
    const uint32_t level = byte_select(lower, upper, and_or(nibbles >> 1, 0x4444, 0x3210));
    out[0] = byte_select(level, 0, 0x4140);
    out[1] = byte_select(level, 0, 0x4342);
  }
};

// Signed bytes, kept plus 128, four a word in order.
struct ByteCodes {
  static constexpr int kUnits = 1, kUnitStep = 0, kOffset = 128;
  static constexpr int kBytes = 4096;

  struct Regs {
    Words4 word[8];  // two a cell
  };

  template <class Cursor>
  SPATE_HD static Regs load(const Cursor& c) {
    Regs r;
    for (int i = 0; i < 8; ++i) r.word[i] = load4(c.at16 + 512 * i);
    return r;
  }

  template <int h, int rh, int c>
  SPATE_HD static void pairs(const Regs& r, Half2Bits out[4]) {
    const Words4& half_cell = r.word[2 * (2 * h + rh) + c / 2];
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = half_cell.w[2 * (c % 2) + i];
      out[2 * i] = byte_select(word, 0, 0x4140);
      out[2 * i + 1] = byte_select(word, 0, 0x4342);
    }
  }
  SPATE_HD static constexpr int unit(int) { return 0; }

  // code: the signed values plus 128.
  SPATE_HD static void pack_cell(const uint8_t* code, int h, int rh, int lane, std::byte* tile) {
    for (int n = 0; n < 32; ++n)
      tile[512 * (2 * (2 * h + rh) + n / 16) + 16 * lane + n % 16] = static_cast<std::byte>(code[n]);
  }
};

}  // namespace spate::cuda
