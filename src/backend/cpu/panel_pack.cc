#include "backend/cpu/panel_pack.h"

#include <bit>
#include <cstring>

#include "backend/cpu/panel_layout.h"
#include "base/check.h"
#include "quant/qblocks.h"

namespace spate::cpu {

namespace {

static_assert(std::endian::native == std::endian::little, "qblocks are read as little-endian words");

// Codes travel four at a time, columns 32 sub + 4 g .. + 3 of a qblock as the bytes of a word.
using Codes = uint32_t;
constexpr Codes kBit = 0x01010101, kPair = 0x03030303, kNibble = 0x0f0f0f0f;

uint32_t word(const void* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

void or_word(void* bytes, uint32_t value) {
  value |= word(bytes);
  std::memcpy(bytes, &value, sizeof value);
}

// A part of the codes in the file: a word holds 4 columns, each in its byte at the same shift.
struct Field {
  int byte;   // of the word in its array
  int shift;  // of the field in each byte
};

Codes get(const uint8_t* array, Field at, Codes mask) {
  return (word(array + at.byte) >> at.shift) & mask;
}
void put(uint8_t* array, Field at, Codes codes) {
  or_word(array + at.byte, codes << at.shift);
}

// Where each format keeps the codes of (sub, g). Halves: 32 nibbles in 16 bytes; Doubles: two sub-blocks' in 32 bytes.
Field halves(int sub, int g) {
  return {16 * sub + 4 * (g % 4), g / 4 * 4};
}
Field doubles(int sub, int g) {
  return {sub / 2 * 32 + 4 * g, sub % 2 * 4};
}
Field quadruples(int sub, int g) {
  return {sub / 4 * 32 + 4 * g, sub % 4 * 2};
}
Field octuples(int sub, int g) {
  return {4 * g, sub};
}
Field nibbles_of_q6(int sub, int g) {
  return {sub / 4 * 64 + sub % 2 * 32 + 4 * g, sub % 4 / 2 * 4};
}

// Q5_0 and Q5_1 keep four columns' fifth bits together in half a byte.
Codes spread_bits(uint32_t bits) {
  return (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21;
}
uint32_t gather_bits(Codes bits) {
  return (bits | bits >> 7 | bits >> 14 | bits >> 21) & 15;
}

template <QuantType type>
Codes get_codes(const Qblock<type>& b, int sub, int g) {
  using enum QuantType;
  if constexpr (type == kQ8_0) return word(b.qs + 4 * g);
  if constexpr (type == kQ4_0 || type == kQ4_1 || type == kIQ4_NL || type == kIQ4_XS)
    return get(b.qs, halves(sub, g), kNibble);
  if constexpr (type == kQ5_0 || type == kQ5_1)
    return get(b.qs, halves(sub, g), kNibble) | spread_bits(b.qh[g / 2] >> (g % 2 * 4)) << 4;
  if constexpr (type == kQ4_K) return get(b.qs, doubles(sub, g), kNibble);
  if constexpr (type == kQ5_K) return get(b.qs, doubles(sub, g), kNibble) | get(b.qh, octuples(sub, g), kBit) << 4;
  if constexpr (type == kQ6_K)
    return get(b.ql, nibbles_of_q6(sub, g), kNibble) | get(b.qh, quadruples(sub, g), kPair) << 4;
  if constexpr (type == kQ2_K) return get(b.qs, quadruples(sub, g), kPair);
  if constexpr (type == kQ3_K) return get(b.qs, quadruples(sub, g), kPair) | get(b.hmask, octuples(sub, g), kBit) << 2;
}

// Into a qblock whose code bytes are still zero.
template <QuantType type>
void put_codes(Qblock<type>& b, int sub, int g, Codes codes) {
  using enum QuantType;
  if constexpr (type == kQ8_0) or_word(b.qs + 4 * g, codes);
  if constexpr (type == kQ4_0 || type == kQ4_1 || type == kIQ4_NL || type == kIQ4_XS || type == kQ5_0 || type == kQ5_1)
    put(b.qs, halves(sub, g), codes & kNibble);
  if constexpr (type == kQ5_0 || type == kQ5_1)
    b.qh[g / 2] |= static_cast<uint8_t>(gather_bits(codes >> 4 & kBit) << (g % 2 * 4));
  if constexpr (type == kQ4_K || type == kQ5_K) put(b.qs, doubles(sub, g), codes & kNibble);
  if constexpr (type == kQ5_K) put(b.qh, octuples(sub, g), codes >> 4 & kBit);
  if constexpr (type == kQ6_K) {
    put(b.ql, nibbles_of_q6(sub, g), codes & kNibble);
    put(b.qh, quadruples(sub, g), codes >> 4 & kPair);
  }
  if constexpr (type == kQ2_K || type == kQ3_K) put(b.qs, quadruples(sub, g), codes & kPair);
  if constexpr (type == kQ3_K) put(b.hmask, octuples(sub, g), codes >> 2 & kBit);
}

template <typename T>
concept HasBits = requires(T t) {
  t.bits;
};
template <typename T>
concept HasPairs = requires(T t) {
  t.pairs;
};
template <typename T>
concept HasNibbles = requires(T t) {
  t.nibbles;
};
template <typename T>
concept HasBytes = requires(T t) {
  t.bytes;
};

void set_word(uint8_t* vector, int row, uint32_t value) {
  std::memcpy(vector + 4 * row, &value, sizeof value);
}

template <int n_bits>
int bit_of_group(int g) {
  return n_bits == 3 ? kBitOfGroup[g] : g;
}

// codes[8], a word a group, into and out of a panel's planes.
template <int n_bits>
void set_codes(PanelCodes<n_bits>& p, int row, const Codes* codes) {
  using Planes = PanelCodes<n_bits>;
  if constexpr (HasBytes<Planes>)
    for (int g = 0; g < 8; ++g) set_word(p.bytes[g], row, codes[g]);
  if constexpr (HasNibbles<Planes>)
    for (int v = 0; v < 4; ++v) set_word(p.nibbles[v], row, (codes[v] & kNibble) | (codes[v + 4] & kNibble) << 4);
  constexpr int kPairShift = n_bits == 6 ? 4 : 0;
  if constexpr (HasPairs<Planes>)
    for (int v = 0; v < 2; ++v) {
      uint32_t pairs = 0;
      for (int j = 0; j < 4; ++j) pairs |= (codes[4 * v + j] >> kPairShift & kPair) << (2 * j);
      set_word(p.pairs[v], row, pairs);
    }
  if constexpr (HasBits<Planes>) {
    uint32_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (codes[g] >> (n_bits - 1) & kBit) << bit_of_group<n_bits>(g);
    set_word(p.bits, row, bits);
  }
}

template <int n_bits>
Codes get_codes(const PanelCodes<n_bits>& p, int row, int g) {
  using Planes = PanelCodes<n_bits>;
  Codes codes = 0;
  if constexpr (HasBytes<Planes>) codes = word(p.bytes[g] + 4 * row);
  if constexpr (HasNibbles<Planes>) codes |= word(p.nibbles[g % 4] + 4 * row) >> (g / 4 * 4) & kNibble;
  constexpr int kPairShift = n_bits == 6 ? 4 : 0;
  if constexpr (HasPairs<Planes>) codes |= (word(p.pairs[g / 4] + 4 * row) >> (g % 4 * 2) & kPair) << kPairShift;
  if constexpr (HasBits<Planes>) codes |= (word(p.bits + 4 * row) >> bit_of_group<n_bits>(g) & kBit) << (n_bits - 1);
  return codes;
}

// Rows r and r + 8 share a byte of `high`, which is zero before the first of them comes.
void set_six_bits(SixBitPairs& p, int row, int first, int second) {
  p.low[row] = static_cast<uint8_t>(first | (second & 3) << 6);
  uint8_t& high = p.high[row % 8];
  high = static_cast<uint8_t>((row < 8 ? 0 : high) | second >> 2 << (row / 8 * 4));
}

int first_of(const SixBitPairs& p, int row) {
  return p.low[row] & 63;
}
int second_of(const SixBitPairs& p, int row) {
  return p.low[row] >> 6 | ((p.high[row % 8] >> (row / 8 * 4)) & 15) << 2;
}

// Everything of a qblock but its codes. Rows come in ascending order (set_six_bits).
template <QuantType type>
void set_scales(PanelBlock<type>& p, int row, const Qblock<type>& b) {
  using enum QuantType;
  p.d[row] = b.d;
  if constexpr (type == kQ4_1 || type == kQ5_1) p.m[row] = b.m;
  if constexpr (type == kQ2_K || type == kQ4_K || type == kQ5_K) p.dmin[row] = b.dmin;
  if constexpr (type == kQ4_K || type == kQ5_K)
    for (int s = 0; s < 8; ++s) set_six_bits(p.scales[s], row, b.scales.scale(s), b.scales.minimum(s));
  if constexpr (type == kQ2_K || type == kQ6_K)
    for (int s = 0; s < 16; ++s) p.scales[s][row] = b.scales[s];
  if constexpr (type == kQ3_K)
    for (int s = 0; s < 8; ++s) set_six_bits(p.scales[s], row, b.scale_code(2 * s), b.scale_code(2 * s + 1));
  if constexpr (type == kIQ4_XS)
    for (int s = 0; s < 4; ++s) set_six_bits(p.scales[s], row, b.scale_code(2 * s), b.scale_code(2 * s + 1));
}

template <QuantType type>
void get_scales(const PanelBlock<type>& p, int row, Qblock<type>& b) {
  using enum QuantType;
  b.d = p.d[row];
  if constexpr (type == kQ4_1 || type == kQ5_1) b.m = p.m[row];
  if constexpr (type == kQ2_K || type == kQ4_K || type == kQ5_K) b.dmin = p.dmin[row];
  if constexpr (type == kQ4_K || type == kQ5_K) {
    uint8_t scale[8], minimum[8];
    for (int s = 0; s < 8; ++s) {
      scale[s] = static_cast<uint8_t>(first_of(p.scales[s], row));
      minimum[s] = static_cast<uint8_t>(second_of(p.scales[s], row));
    }
    b.scales = KScales::from(scale, minimum);
  }
  if constexpr (type == kQ2_K || type == kQ6_K)
    for (int s = 0; s < 16; ++s) b.scales[s] = p.scales[s][row];
  if constexpr (type == kQ3_K || type == kIQ4_XS) {
    constexpr int kScales = type == kQ3_K ? 16 : 8;
    for (int s = 0; s < kScales; ++s)
      b.set_scale_code(s, s % 2 == 0 ? first_of(p.scales[s / 2], row) : second_of(p.scales[s / 2], row));
  }
}

template <QuantType type>
constexpr bool kIsFloat = Qblock<type>::kElems == 1;

template <QuantType type>
void pack(const std::byte* rows, int n_valid, int64_t n_cols, std::byte* panel) {
  using Block = Qblock<type>;
  const int64_t n_blocks = n_cols / Block::kElems;
  for (int64_t i = 0; i < n_blocks; ++i) {
    PanelBlock<type> out;
    for (int row = 0; row < kPanelRows; ++row) {
      Block b{};
      if (row < n_valid) std::memcpy(&b, rows + (row * n_blocks + i) * sizeof b, sizeof b);
      if constexpr (kIsFloat<type>) {
        out.value[row] = b.value;
      } else {
        set_scales<type>(out, row, b);
        for (int sub = 0; sub < Block::kElems / 32; ++sub) {
          Codes codes[8];
          for (int g = 0; g < 8; ++g) codes[g] = get_codes<type>(b, sub, g);
          set_codes(out.codes[sub], row, codes);
        }
      }
    }
    std::memcpy(panel + i * sizeof out, &out, sizeof out);
  }
}

template <QuantType type>
void unpack(const std::byte* panel, int n_valid, int64_t n_cols, std::byte* rows) {
  using Block = Qblock<type>;
  const int64_t n_blocks = n_cols / Block::kElems;
  for (int64_t i = 0; i < n_blocks; ++i) {
    PanelBlock<type> in;
    std::memcpy(&in, panel + i * sizeof in, sizeof in);
    for (int row = 0; row < n_valid; ++row) {
      Block b{};
      if constexpr (kIsFloat<type>) {
        b.value = in.value[row];
      } else {
        get_scales<type>(in, row, b);
        for (int sub = 0; sub < Block::kElems / 32; ++sub)
          for (int g = 0; g < 8; ++g) put_codes<type>(b, sub, g, get_codes(in.codes[sub], row, g));
      }
      std::memcpy(rows + (row * n_blocks + i) * sizeof b, &b, sizeof b);
    }
  }
}

}  // namespace

void pack_panel(QuantType type, const std::byte* rows, int n_valid, int64_t n_cols, std::byte* panel) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return pack<QuantType::enumerator>(rows, n_valid, n_cols, panel);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  SPATE_CHECK(false, "no panels of {}", quant_name(type));
}

void unpack_panel(QuantType type, const std::byte* panel, int n_valid, int64_t n_cols, std::byte* rows) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return unpack<QuantType::enumerator>(panel, n_valid, n_cols, rows);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  SPATE_CHECK(false, "no panels of {}", quant_name(type));
}

}  // namespace spate::cpu
