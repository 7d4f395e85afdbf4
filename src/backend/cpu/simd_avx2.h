// The vector vocabulary of the linear kernels in AVX2, FMA and F16C: 8 rows of a panel. Included inside the anonymous
// namespace of the one translation unit that uses it, after <immintrin.h>.

constexpr int kLanes = 8;             // rows a vector
constexpr bool kCodesBiased = false;  // dot_signed() takes signed codes as they are
constexpr bool kOffsetFirst = false;  // offsets of codes are taken off sums, not what sums start from
constexpr int kHalvesBits = 4;        // codes of up to so many bits are multiplied as linear_integer_halves.inl does
constexpr int kFloatTokens = 3;       // tokens a pass over weights of float types: 12 accumulators of 16 registers

using Bytes = __m256i;  // [row][4 columns]
using Ints = __m256i;
using Floats = __m256;

inline Bytes load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Bytes or_bytes(Bytes a, Bytes b) {
  return _mm256_or_si256(a, b);
}
// Bits [from, from + width) of each byte, moved to [to, to + width). There are no shifts of bytes: what a 16-bit shift
// carries over is masked away.
template <int from, int to, int width>
Bytes field(Bytes v) {
  const Bytes mask = _mm256_set1_epi8(static_cast<char>(((1 << width) - 1) << to));
  if constexpr (to > from)
    return _mm256_and_si256(_mm256_slli_epi16(v, to - from), mask);
  else if constexpr (from > to)
    return _mm256_and_si256(_mm256_srli_epi16(v, from - to), mask);
  else
    return _mm256_and_si256(v, mask);
}
// Signed levels by 4-bit index.
inline Bytes lookup(const int8_t* levels, Bytes index) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}
// Codes stored as int8, as dot_signed() wants them.
inline Bytes signed_codes(Bytes stored) {
  return stored;
}

inline __m128i load_8_bytes(const void* p) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
inline Ints load_u8(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(load_8_bytes(p));
}
inline Ints load_s8(const int8_t* p) {
  return _mm256_cvtepi8_epi32(load_8_bytes(p));
}
inline Ints and_ints(Ints a, int b) {
  return _mm256_and_si256(a, _mm256_set1_epi32(b));
}
inline Ints or_ints(Ints a, Ints b) {
  return _mm256_or_si256(a, b);
}
inline Ints add_ints(Ints a, Ints b) {
  return _mm256_add_epi32(a, b);
}
inline Ints sub_ints(Ints a, Ints b) {
  return _mm256_sub_epi32(a, b);
}
template <int n>
Ints shift_left(Ints a) {
  return _mm256_slli_epi32(a, n);
}
template <int n>
Ints shift_right(Ints a) {
  return _mm256_srli_epi32(a, n);
}
// Nibbles of rows [row, row + kLanes): row r in the low nibble of byte r, row r + 8 in its high nibble.
inline Ints load_row_nibbles(const uint8_t* p, int row) {
  const Ints bytes = load_u8(p);
  return row == 0 ? and_ints(bytes, 15) : shift_right<4>(bytes);
}
inline Ints broadcast_int(int32_t value) {
  return _mm256_set1_epi32(value);
}
inline Floats to_floats(Ints a) {
  return _mm256_cvtepi32_ps(a);
}

inline Floats zero_floats() {
  return _mm256_setzero_ps();
}
inline Floats broadcast(float value) {
  return _mm256_set1_ps(value);
}
inline Floats load_floats(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void store_floats(float* p, Floats v) {
  _mm256_storeu_ps(p, v);
}
inline Floats add(Floats a, Floats b) {
  return _mm256_add_ps(a, b);
}
inline Floats mul(Floats a, Floats b) {
  return _mm256_mul_ps(a, b);
}
// a * b + c, rounded once
inline Floats fma(Floats a, Floats b, Floats c) {
  return _mm256_fmadd_ps(a, b, c);
}
// c - a * b, rounded once
inline Floats fnma(Floats a, Floats b, Floats c) {
  return _mm256_fnmadd_ps(a, b, c);
}
inline Floats load_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Floats load_bf16(const uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

inline Bytes broadcast_4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return _mm256_set1_epi32(four);
}

// start + the sum over kGroups groups of 4 columns of codes[group][row] * q[column], exact: pairs of products are added
// as int16 for as long as they cannot overflow, |q| being at most 127.
template <int kMaxCode, int kGroups>
Ints dot_unsigned(const Bytes* codes, const int8_t* q, Ints start) {
  constexpr int kFit = 32767 / (2 * 127 * kMaxCode);
  static_assert(kFit >= 1);
  constexpr int kRun = kFit < kGroups ? kFit : kGroups;
  Ints sum = start;
  for (int first = 0; first < kGroups; first += kRun) {
    __m256i pairs = _mm256_maddubs_epi16(codes[first], broadcast_4(q + 4 * first));
    for (int g = first + 1; g < first + kRun && g < kGroups; ++g)
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes[g], broadcast_4(q + 4 * g)));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}
// The same over 16 columns, q[4] broadcast, left as sums of pairs; those of 32 columns may be added in int16.
template <int kMaxCode>
Ints pairs_of_16_columns(const Bytes* codes, const Bytes* q) {
  static_assert(32767 / (2 * 127 * kMaxCode) >= 8);
  const __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(codes[0], q[0]), _mm256_maddubs_epi16(codes[1], q[1]));
  const __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(codes[2], q[2]), _mm256_maddubs_epi16(codes[3], q[3]));
  return _mm256_add_epi16(low, high);
}
inline Ints add_pairs(Ints a, Ints b) {
  return _mm256_add_epi16(a, b);
}
inline Ints sum_of_pairs(Ints pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
// The instruction multiplies unsigned by signed, so the code's sign moves over to q. A pair of products is at most
// 2 * 128 * 127 = 32512.
template <int kGroups>
Ints dot_signed(const Bytes* codes, const int8_t* q, Ints start) {
  Ints sum = start;
  for (int g = 0; g < kGroups; ++g) {
    const __m256i magnitude = _mm256_abs_epi8(codes[g]);
    const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(broadcast_4(q + 4 * g), codes[g]));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}
