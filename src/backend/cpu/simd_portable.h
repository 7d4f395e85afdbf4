// The vector vocabulary of the linear kernels in plain C++ (compiler vector types of 16 bytes: 4 rows of a panel).
// Included inside the anonymous namespace of the one translation unit that uses it; simd_avx2.h and simd_avx512.h offer
// the same names.

constexpr int kLanes = 4;             // rows a vector
constexpr bool kCodesBiased = false;  // dot_signed() takes signed codes as they are
constexpr bool kOffsetFirst = false;  // offsets of codes are taken off sums, not what sums start from
constexpr bool kPairs = false;        // products as linear_integer.inl has them
constexpr int kPrefetchBytes = 4096;
constexpr int kFloatTokens = 2;  // tokens a pass over weights of float types: 4 accumulators each, in 16 registers

using Bytes = uint8_t __attribute__((vector_size(16)));  // [row][4 columns]
using Ints = int32_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(8)));

template <typename Vector, typename Scalar>
Vector load_as(const Scalar* p) {
  Vector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline Bytes load_bytes(const uint8_t* p) {
  return load_as<Bytes>(p);
}
inline Bytes or_bytes(Bytes a, Bytes b) {
  return a | b;
}
// The bits of `mask` of each byte shifted right by n, or left by -n.
template <int n, int mask>
Bytes masked(Bytes v) {
  if constexpr (n >= 0)
    return (v >> n) & static_cast<uint8_t>(mask);
  else
    return (v << -n) & static_cast<uint8_t>(mask);
}
// Signed levels by 4-bit index.
inline Bytes lookup(const int8_t* levels, Bytes index) {
  Bytes out;
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>(levels[index[i]]);
  return out;
}
// Codes stored as int8, as dot_signed() wants them.
inline Bytes signed_codes(Bytes stored) {
  return stored;
}

template <typename Numbers>
Numbers load_u8(const uint8_t* p) {
  return Ints{p[0], p[1], p[2], p[3]};
}
using Factors = Ints;  // of 16 columns' sums
inline Factors load_s8_factors(const int8_t* p) {
  return Ints{p[0], p[1], p[2], p[3]};
}
// Nibbles of rows [row, row + kLanes): row r in the low nibble of byte r, row r + 8 in its high nibble.
template <typename Numbers>
Numbers load_row_nibbles(const uint8_t* p, int row) {
  return (load_u8<Numbers>(p + row % 8) >> (row / 8 * 4)) & 15;
}
inline Ints and_ints(Ints a, int b) {
  return a & b;
}
inline Ints or_ints(Ints a, Ints b) {
  return a | b;
}
inline Ints add_ints(Ints a, Ints b) {
  return a + b;
}
inline Ints sub_ints(Ints a, Ints b) {
  return a - b;
}
inline Ints sub_ints(Ints a, int b) {
  return a - b;
}
template <int n>
Ints shift_left(Ints a) {
  return a << n;
}
template <int n>
Ints shift_right(Ints a) {
  return a >> n;
}
inline Ints broadcast_int(int32_t value) {
  return Ints{} + value;
}
inline Floats to_floats(Ints a) {
  return __builtin_convertvector(a, Floats);
}

inline Floats zero_floats() {
  return Floats{};
}
inline Floats broadcast(float value) {
  return Floats{} + value;
}
inline Floats load_floats(const float* p) {
  return load_as<Floats>(p);
}
inline void store_floats(float* p, Floats v) {
  __builtin_memcpy(p, &v, sizeof v);
}
inline Floats add(Floats a, Floats b) {
  return a + b;
}
inline Floats mul(Floats a, Floats b) {
  return a * b;
}
// a * b + c. Two roundings here, one in the other vocabularies: a fused multiply-add in software is far too slow.
inline Floats fma(Floats a, Floats b, Floats c) {
  return a * b + c;
}
// c - a * b
inline Floats fnma(Floats a, Floats b, Floats c) {
  return c - a * b;
}
inline Floats load_f16(const uint16_t* p) {
  const Words half = __builtin_convertvector(load_as<Halves>(p), Words);
  const Words magnitude = (half & 0x7fff) << 13;
  // 2^112 moves the exponent's bias from 15 to 127, subnormals included; infinities and NaNs keep all exponent bits.
  const Words finite = (Words)((Floats)magnitude * 0x1p112f);
  const Words special = magnitude | 0x7f800000;
  return (Floats)(((half & 0x7fff) >= 0x7c00 ? special : finite) | (half & 0x8000) << 16);
}
inline Floats load_bf16(const uint16_t* p) {
  return (Floats)(__builtin_convertvector(load_as<Halves>(p), Words) << 16);
}

// start + the sum over kGroups groups of 4 columns of codes[group][row] * q[column], exact.
template <int kMaxCode, int kGroups>
Ints dot_unsigned(const Bytes* codes, const int8_t* q, Ints start) {
  Ints sum = start;
  for (int g = 0; g < kGroups; ++g) {
    const Ints four = (Ints)codes[g];
    for (int c = 0; c < 4; ++c) sum += ((four >> (8 * c)) & 255) * static_cast<int32_t>(q[4 * g + c]);
  }
  return sum;
}
template <int kGroups>
Ints dot_signed(const Bytes* codes, const int8_t* q, Ints start) {
  Ints sum = start;
  for (int g = 0; g < kGroups; ++g) {
    const Ints four = (Ints)codes[g];
    for (int c = 0; c < 4; ++c) sum += ((four << (24 - 8 * c)) >> 24) * static_cast<int32_t>(q[4 * g + c]);
  }
  return sum;
}
