// The vector vocabulary of the linear kernels in AVX2, FMA and F16C: 8 rows of a panel. Included inside the anonymous
// namespace of the one translation unit that uses it, after <immintrin.h>.

constexpr int kLanes = 8;             // rows a vector
constexpr bool kCodesBiased = false;  // dot_signed() takes signed codes as they are
constexpr bool kOffsetFirst = false;  // offsets of codes are taken off sums, not what sums start from
constexpr bool kPairs = true;         // products as linear_integer_pairs.inl has them
constexpr int kPrefetchBytes = 1536;  // see prefetch(): more than that is asked for before the processor's own is there
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
// The bits of `mask` of each byte shifted right by n, or left by -n. There are no shifts of bytes: what one of 16 bits
// carries over has to be masked away.
template <int n, int mask>
Bytes masked(Bytes v) {
  if constexpr (n > 0) v = _mm256_srli_epi16(v, n);
  if constexpr (n < 0) v = _mm256_slli_epi16(v, -n);
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
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

// Integers below 2^15 of 8 rows, each twice, as the two int16 of its row's lane: what sums of pairs are multiplied by.
struct Factors {
  __m256i pairs;
};

template <typename Numbers>
Numbers load_u8(const uint8_t* p);
template <>
inline Ints load_u8<Ints>(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(load_8_bytes(p));
}
// The 8 bytes to the even (at 0) or odd (at 1) bytes of the lanes' int16, the others zero.
template <int at>
__m256i spread_8_bytes(const void* p) {
  int64_t bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  constexpr int64_t kFirst = at == 0 ? 0x8001'8001'8000'8000 : 0x0180'0180'0080'0080;
  constexpr int64_t kSecond = at == 0 ? 0x8003'8003'8002'8002 : 0x0380'0380'0280'0280;
  constexpr int64_t kUpperHalf = at == 0 ? 0x0004'0004'0004'0004 : 0x0400'0400'0400'0400;
  return _mm256_shuffle_epi8(_mm256_set1_epi64x(bytes),
                             _mm256_setr_epi64x(kFirst, kSecond, kFirst + kUpperHalf, kSecond + kUpperHalf));
}
template <>
inline Factors load_u8<Factors>(const uint8_t* p) {
  return {spread_8_bytes<0>(p)};
}
inline Factors load_s8_factors(const int8_t* p) {
  return {_mm256_srai_epi16(spread_8_bytes<1>(p), 8)};
}
inline Factors and_ints(Factors a, int b) {
  return {_mm256_and_si256(a.pairs, _mm256_set1_epi16(static_cast<int16_t>(b)))};
}
inline Factors or_ints(Factors a, Factors b) {
  return {_mm256_or_si256(a.pairs, b.pairs)};
}
inline Factors sub_ints(Factors a, int b) {
  return {_mm256_sub_epi16(a.pairs, _mm256_set1_epi16(static_cast<int16_t>(b)))};
}
template <int n>
Factors shift_left(Factors a) {
  return {_mm256_slli_epi16(a.pairs, n)};
}
template <int n>
Factors shift_right(Factors a) {
  return {_mm256_srli_epi16(a.pairs, n)};
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
inline Ints sub_ints(Ints a, int b) {
  return _mm256_sub_epi32(a, _mm256_set1_epi32(b));
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
template <typename Numbers>
Numbers load_row_nibbles(const uint8_t* p, int row) {
  const Numbers bytes = load_u8<Numbers>(p);
  return row == 0 ? and_ints(bytes, 15) : shift_right<4>(bytes);
}
inline Ints broadcast_int(int32_t value) {
  return _mm256_set1_epi32(value);
}
inline Floats to_floats(Ints a) {
  return _mm256_cvtepi32_ps(a);
}
inline Floats to_floats(Factors a) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(a.pairs, 16));
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
// Products of 4 columns as int16, neighbours added: pairs.
inline Ints products(Bytes codes, Bytes q) {
  return _mm256_maddubs_epi16(codes, q);
}
// The instruction multiplies unsigned by signed, so the code's sign moves over to q. A pair of products is at most
// 2 * 128 * 127 = 32512.
inline Ints signed_products(Bytes codes, Bytes q) {
  return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(q, codes));
}
inline Ints add_pairs(Ints a, Ints b) {
  return _mm256_add_epi16(a, b);
}
inline Ints sum_of_pairs(Ints pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
// Each pair times the row's factors, the two added.
inline Ints multiply_pairs(Ints pairs, Factors factors) {
  return _mm256_madd_epi16(pairs, factors.pairs);
}
inline Ints broadcast_pair(const int16_t (&pair)[2]) {
  int32_t both;
  __builtin_memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}
inline Factors same_factors(int value) {
  return {_mm256_set1_epi16(static_cast<int16_t>(value))};
}
// A row's first factor from `first`, its second from `second`.
inline Factors pair_of(Factors first, Factors second) {
  return {_mm256_blend_epi16(first.pairs, second.pairs, 0xaa)};
}
template <int kGroups>
Ints dot_signed(const Bytes* codes, const int8_t* q, Ints start) {
  Ints sum = start;
  for (int g = 0; g < kGroups; ++g)
    sum = _mm256_add_epi32(sum, sum_of_pairs(signed_products(codes[g], broadcast_4(q + 4 * g))));
  return sum;
}
