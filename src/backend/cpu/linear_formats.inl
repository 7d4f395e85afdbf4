// How the vectors of 32 columns come out of a panel block, format by format. Included inside the anonymous namespace of
// a kernel translation unit, after its simd_*.h.
//
// A weight is scale * (code - kOffset) + minimum, the scale and the minimum exactly as the format's scalar decode
// (quant/*.h) rounds them. Format<type> has
//   kBits          of a stored code
//   kOffset        taken off a stored code; 0 or a power of two
//   kLevels        codes index kIq4Levels; kSigned: codes are int8 as they are (so are the levels)
//   kScaleColumns  columns that share a scale, 32 or 16
//   kMinimum       0, or the sign with which the minimum is added: +1 (Q4_1, Q5_1), -1 (the K-quants)
//   Header         of a panel block, for the rows from `row` on: what all its sub-blocks share
//   scales()       of a sub-block of 32 columns

template <QuantType type>
constexpr bool kIsFloat = type == QuantType::kF32 || type == QuantType::kF16 || type == QuantType::kBF16;

// Of kLanes rows; index 1 is the second half where kScaleColumns is 16.
struct Scales {
  Floats scale[2], minimum[2];
};

template <QuantType type>
struct Format;

struct PlainFormat {  // the common case; formats override what differs
  static constexpr int kOffset = 0;
  static constexpr bool kLevels = false, kSigned = false;
  static constexpr int kScaleColumns = 32;
  static constexpr int kMinimum = 0;
};

// One scale a row: Q4_0, Q5_0, Q8_0, IQ4_NL.
template <QuantType type>
struct OneScale : PlainFormat {
  struct Header {
    Floats d;
  };
  static Header header(const PanelBlock<type>& b, int row) { return {load_f16(b.d + row)}; }
  static void scales(const PanelBlock<type>&, const Header& h, int, int, Scales& out) { out.scale[0] = h.d; }
};
template <>
struct Format<QuantType::kQ4_0> : OneScale<QuantType::kQ4_0> {
  static constexpr int kBits = 4, kOffset = 8;
};
template <>
struct Format<QuantType::kQ5_0> : OneScale<QuantType::kQ5_0> {
  static constexpr int kBits = 5, kOffset = 16;
};
template <>
struct Format<QuantType::kQ8_0> : OneScale<QuantType::kQ8_0> {
  static constexpr int kBits = 8;
  static constexpr bool kSigned = true;
};
template <>
struct Format<QuantType::kIQ4_NL> : OneScale<QuantType::kIQ4_NL> {
  static constexpr int kBits = 4;
  static constexpr bool kLevels = true, kSigned = true;
};

// Scale and minimum, both f16: Q4_1, Q5_1.
template <QuantType type>
struct ScaleAndOffset : PlainFormat {
  static constexpr int kMinimum = 1;
  struct Header {
    Floats d, m;
  };
  static Header header(const PanelBlock<type>& b, int row) { return {load_f16(b.d + row), load_f16(b.m + row)}; }
  static void scales(const PanelBlock<type>&, const Header& h, int, int, Scales& out) {
    out.scale[0] = h.d;
    out.minimum[0] = h.m;
  }
};
template <>
struct Format<QuantType::kQ4_1> : ScaleAndOffset<QuantType::kQ4_1> {
  static constexpr int kBits = 4;
};
template <>
struct Format<QuantType::kQ5_1> : ScaleAndOffset<QuantType::kQ5_1> {
  static constexpr int kBits = 5;
};

struct TwoInts {
  Ints first, second;
};
inline TwoInts six_bit_pairs(const SixBitPairs& p, int row) {
  const Ints low = load_u8(p.low + row);
  return {and_ints(low, 63), or_ints(shift_right<6>(low), shift_left<2>(load_row_nibbles(p.high, row)))};
}

// 6-bit scales and minimums: Q4_K, Q5_K.
template <QuantType type>
struct ScaleAndMinimum : PlainFormat {
  static constexpr int kMinimum = -1;
  struct Header {
    Floats d, dmin;
  };
  static Header header(const PanelBlock<type>& b, int row) { return {load_f16(b.d + row), load_f16(b.dmin + row)}; }
  static void scales(const PanelBlock<type>& b, const Header& h, int sub, int row, Scales& out) {
    const TwoInts codes = six_bit_pairs(b.scales[sub], row);
    out.scale[0] = mul(h.d, to_floats(codes.first));
    out.minimum[0] = mul(h.dmin, to_floats(codes.second));
  }
};
template <>
struct Format<QuantType::kQ4_K> : ScaleAndMinimum<QuantType::kQ4_K> {
  static constexpr int kBits = 4;
};
template <>
struct Format<QuantType::kQ5_K> : ScaleAndMinimum<QuantType::kQ5_K> {
  static constexpr int kBits = 5;
};

template <>
struct Format<QuantType::kIQ4_XS> : PlainFormat {
  static constexpr int kBits = 4;
  static constexpr bool kLevels = true, kSigned = true;
  struct Header {
    Floats d;
  };
  using Block = PanelBlock<QuantType::kIQ4_XS>;
  static Header header(const Block& b, int row) { return {load_f16(b.d + row)}; }
  static void scales(const Block& b, const Header& h, int sub, int row, Scales& out) {
    const TwoInts codes = six_bit_pairs(b.scales[sub / 2], row);
    const Ints code = sub % 2 == 0 ? codes.first : codes.second;
    out.scale[0] = mul(h.d, to_floats(sub_ints(code, broadcast_int(32))));
  }
};

// Scales a half sub-block: Q2_K, Q3_K, Q6_K.
template <>
struct Format<QuantType::kQ2_K> : PlainFormat {
  static constexpr int kBits = 2, kScaleColumns = 16, kMinimum = -1;
  struct Header {
    Floats d, dmin;
  };
  using Block = PanelBlock<QuantType::kQ2_K>;
  static Header header(const Block& b, int row) { return {load_f16(b.d + row), load_f16(b.dmin + row)}; }
  static void scales(const Block& b, const Header& h, int sub, int row, Scales& out) {
    for (int half = 0; half < 2; ++half) {
      const Ints codes = load_u8(b.scales[2 * sub + half] + row);
      out.scale[half] = mul(h.d, to_floats(and_ints(codes, 15)));
      out.minimum[half] = mul(h.dmin, to_floats(shift_right<4>(codes)));
    }
  }
};
template <>
struct Format<QuantType::kQ3_K> : PlainFormat {
  static constexpr int kBits = 3, kOffset = 4, kScaleColumns = 16;
  struct Header {
    Floats d;
  };
  using Block = PanelBlock<QuantType::kQ3_K>;
  static Header header(const Block& b, int row) { return {load_f16(b.d + row)}; }
  static void scales(const Block& b, const Header& h, int sub, int row, Scales& out) {
    const TwoInts codes = six_bit_pairs(b.scales[sub], row);
    out.scale[0] = mul(h.d, to_floats(sub_ints(codes.first, broadcast_int(32))));
    out.scale[1] = mul(h.d, to_floats(sub_ints(codes.second, broadcast_int(32))));
  }
};
template <>
struct Format<QuantType::kQ6_K> : PlainFormat {
  static constexpr int kBits = 6, kOffset = 32, kScaleColumns = 16;
  struct Header {
    Floats d;
  };
  using Block = PanelBlock<QuantType::kQ6_K>;
  static Header header(const Block& b, int row) { return {load_f16(b.d + row)}; }
  static void scales(const Block& b, const Header& h, int sub, int row, Scales& out) {
    out.scale[0] = mul(h.d, to_floats(load_s8(b.scales[2 * sub] + row)));
    out.scale[1] = mul(h.d, to_floats(load_s8(b.scales[2 * sub + 1] + row)));
  }
};

// Codes of rows [row, row + kLanes), a vector a group of 4 columns: the planes of PanelCodes put together. Each step of
// the fold has its shift as a constant.
template <int... g>
struct Groups {};

[[gnu::always_inline]] inline void nibbles(const uint8_t (&planes)[4][64], int row, Bytes* codes) {
  for (int v = 0; v < 4; ++v) {
    const Bytes plane = load_bytes(planes[v] + 4 * row);
    codes[v] = field<0, 0, 4>(plane);
    codes[v + 4] = field<4, 0, 4>(plane);
  }
}
template <int to, int... g>
[[gnu::always_inline]] inline void or_pairs(const uint8_t (&planes)[2][64], int row, Bytes* codes, Groups<g...>) {
  const Bytes plane[2] = {load_bytes(planes[0] + 4 * row), load_bytes(planes[1] + 4 * row)};
  ((codes[g] = or_bytes(codes[g], field<g % 4 * 2, to, 2>(plane[g / 4]))), ...);
}
template <int... g>
[[gnu::always_inline]] inline void pairs(const uint8_t (&planes)[2][64], int row, Bytes* codes, Groups<g...>) {
  const Bytes plane[2] = {load_bytes(planes[0] + 4 * row), load_bytes(planes[1] + 4 * row)};
  ((codes[g] = field<g % 4 * 2, 0, 2>(plane[g / 4])), ...);
}
template <int to, int... g>
[[gnu::always_inline]] inline void or_bits(const uint8_t (&plane)[64], int row, Bytes* codes, Groups<g...>) {
  const Bytes bits = load_bytes(plane + 4 * row);
  ((codes[g] = or_bytes(codes[g], field<g, to, 1>(bits))), ...);
}

// codes[8]. Inlined: out of line, its results would go through memory.
template <typename F>
[[gnu::always_inline]] inline void decode_codes(const PanelCodes<F::kBits>& stored, int row, Bytes* codes) {
  constexpr Groups<0, 1, 2, 3, 4, 5, 6, 7> kAll;
  if constexpr (F::kBits == 2) {
    pairs(stored.pairs, row, codes, kAll);
  } else if constexpr (F::kBits == 3) {
    pairs(stored.pairs, row, codes, kAll);
    or_bits<2>(stored.bits, row, codes, kAll);
  } else if constexpr (F::kBits == 8) {
    for (int g = 0; g < 8; ++g) codes[g] = signed_codes(load_bytes(stored.bytes[g] + 4 * row));
  } else {
    nibbles(stored.nibbles, row, codes);
    if constexpr (F::kBits == 5) or_bits<4>(stored.bits, row, codes, kAll);
    if constexpr (F::kBits == 6) or_pairs<4>(stored.pairs, row, codes, kAll);
    if constexpr (F::kLevels)
      for (int g = 0; g < 8; ++g) codes[g] = lookup(kIq4Levels, codes[g]);
  }
}
