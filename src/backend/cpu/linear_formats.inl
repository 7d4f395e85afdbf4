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
//   scales()       of a sub-block of 32 columns; or, where kScaleColumns is 16,
//   factors()      by which Header::d and dmin are multiplied to get them

template <QuantType type>
constexpr bool kIsFloat = type == QuantType::kF32 || type == QuantType::kF16 || type == QuantType::kBF16;

// Of kLanes rows.
struct Scales {
  Floats scale, minimum;
};

// The integers in two scales and, where there are some, minimums; at most 128.
struct HalfFactors {
  Factors scale[2], minimum[2];
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
  static void scales(const PanelBlock<type>&, const Header& h, int, int, Scales& out) { out.scale = h.d; }
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
    out.scale = h.d;
    out.minimum = h.m;
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

template <typename Numbers>
struct Two {
  Numbers first, second;
};
template <typename Numbers>
Two<Numbers> six_bit_pairs(const SixBitPairs& p, int row) {
  const Numbers low = load_u8<Numbers>(p.low + row);
  return {and_ints(low, 63), or_ints(shift_right<6>(low), shift_left<2>(load_row_nibbles<Numbers>(p.high, row)))};
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
    const auto codes = six_bit_pairs<Ints>(b.scales[sub], row);
    out.scale = mul(h.d, to_floats(codes.first));
    out.minimum = mul(h.dmin, to_floats(codes.second));
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
    const auto codes = six_bit_pairs<Ints>(b.scales[sub / 2], row);
    const Ints code = sub % 2 == 0 ? codes.first : codes.second;
    out.scale = mul(h.d, to_floats(sub_ints(code, 32)));
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
  static void factors(const Block& b, int sub, int row, HalfFactors& out) {
    for (int half = 0; half < 2; ++half) {
      const auto codes = load_u8<Factors>(b.scales[2 * sub + half] + row);
      out.scale[half] = and_ints(codes, 15);
      out.minimum[half] = shift_right<4>(codes);
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
  static void factors(const Block& b, int sub, int row, HalfFactors& out) {
    const auto codes = six_bit_pairs<Factors>(b.scales[sub], row);
    out.scale[0] = sub_ints(codes.first, 32);
    out.scale[1] = sub_ints(codes.second, 32);
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
  static void factors(const Block& b, int sub, int row, HalfFactors& out) {
    for (int half = 0; half < 2; ++half) out.scale[half] = load_s8_factors(b.scales[2 * sub + half] + row);
  }
};

// Bits [from, from + width) of each byte, moved to [to, to + width).
template <int from, int to, int width>
Bytes field(Bytes v) {
  return masked<from - to, ((1 << width) - 1) << to>(v);
}

// Codes of group g of 4 columns, of rows [row, row + kLanes): the planes of PanelCodes put together.
template <typename F, int g>
[[gnu::always_inline]] inline Bytes decode_group(const PanelCodes<F::kBits>& stored, int row) {
  const auto plane = [row](const uint8_t(&of_panel)[64]) { return load_bytes(of_panel + 4 * row); };
  if constexpr (F::kBits == 2) {
    return field<g % 4 * 2, 0, 2>(plane(stored.pairs[g / 4]));
  } else if constexpr (F::kBits == 3) {
    // Both of this group and the one two before or after it, as nibbles: done once for both.
    constexpr int kOdd = g % 2, kBit = 2 * (g / 4) + kOdd;
    const Bytes nibbles =
        or_bytes(masked<2 * kOdd, 0x33>(plane(stored.pairs[g / 4])), masked<kBit - 2, 0x44>(plane(stored.bits)));
    return field<g % 4 / 2 * 4, 0, 4>(nibbles);
  } else if constexpr (F::kBits == 8) {
    return signed_codes(plane(stored.bytes[g]));
  } else {
    const Bytes low = field<g / 4 * 4, 0, 4>(plane(stored.nibbles[g % 4]));
    if constexpr (F::kBits == 5)
      return or_bytes(low, field<g, 4, 1>(plane(stored.bits)));
    else if constexpr (F::kBits == 6)
      return or_bytes(low, field<g % 4 * 2, 4, 2>(plane(stored.pairs[g / 4])));
    else if constexpr (F::kLevels)
      return lookup(kIq4Levels, low);
    else
      return low;
  }
}

// Groups [first, first + n) of them.
template <int... i>
struct Groups {};

template <typename F, int first, int... i>
[[gnu::always_inline]] inline void decode_groups(const PanelCodes<F::kBits>& stored, int row, Bytes* codes,
                                                 Groups<i...>) {
  ((codes[i] = decode_group<F, first + i>(stored, row)), ...);
}
// codes[8]. Inlined: out of line, its results would go through memory.
template <typename F>
[[gnu::always_inline]] inline void decode_codes(const PanelCodes<F::kBits>& stored, int row, Bytes* codes) {
  decode_groups<F, 0>(stored, row, codes, Groups<0, 1, 2, 3, 4, 5, 6, 7>());
}
