// The vector vocabulary of the linear kernels in AVX-512 F, BW, VL, DQ and VNNI: all 16 rows of a panel. Included
// inside the anonymous namespace of a translation unit that uses it, after <immintrin.h>.

constexpr int kLanes = 16;           // rows a vector
constexpr bool kCodesBiased = true;  // signed codes carry +128: VNNI multiplies unsigned by signed
constexpr bool kOffsetFirst = true;  // offsets of codes are what sums start from, not taken off them
constexpr bool kPairs = false;       // products as linear_integer.inl has them
constexpr int kPrefetchBytes = 4096;
constexpr int kFloatTokens = 6;  // tokens a pass over weights of float types: 24 accumulators of 32 registers

using Bytes = __m512i;  // [row][4 columns]
using Ints = __m512i;
using Floats = __m512;

inline Bytes load_bytes(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}
inline void store_bytes(uint8_t* p, Bytes v) {
  _mm512_storeu_si512(p, v);
}
inline Bytes or_bytes(Bytes a, Bytes b) {
  return _mm512_or_si512(a, b);
}
// The bits of `mask` of each byte shifted right by n, or left by -n. There are no shifts of bytes: what one of 16 bits
// carries over has to be masked away.
template <int n, int mask>
Bytes masked(Bytes v) {
  if constexpr (n > 0) v = _mm512_srli_epi16(v, n);
  if constexpr (n < 0) v = _mm512_slli_epi16(v, -n);
  return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(mask)));
}
// Codes stored as int8, as dot_signed() wants them.
inline Bytes signed_codes(Bytes stored) {
  return _mm512_xor_si512(stored, _mm512_set1_epi8(static_cast<char>(0x80)));
}
// Signed levels by 4-bit index.
inline Bytes lookup(const int8_t* levels, Bytes index) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
  return signed_codes(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index));
}

inline __m128i load_16_bytes(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline Ints load_ints(const int32_t* p) {
  return _mm512_loadu_si512(p);
}
template <typename Numbers>
Numbers load_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(load_16_bytes(p));
}
using Factors = Ints;  // of 16 columns' sums
inline Factors load_s8_factors(const int8_t* p) {
  return _mm512_cvtepi8_epi32(load_16_bytes(p));
}
// Nibbles of rows [row, row + kLanes): row r in the low nibble of byte r, row r + 8 in its high nibble.
template <typename Numbers>
Numbers load_row_nibbles(const uint8_t* p, int /*row*/) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i both = _mm_unpacklo_epi64(bytes, _mm_srli_epi16(bytes, 4));
  return _mm512_cvtepu8_epi32(_mm_and_si128(both, _mm_set1_epi8(15)));
}
inline Ints and_ints(Ints a, int b) {
  return _mm512_and_si512(a, _mm512_set1_epi32(b));
}
inline Ints or_ints(Ints a, Ints b) {
  return _mm512_or_si512(a, b);
}
inline Ints add_ints(Ints a, Ints b) {
  return _mm512_add_epi32(a, b);
}
inline Ints sub_ints(Ints a, Ints b) {
  return _mm512_sub_epi32(a, b);
}
inline Ints sub_ints(Ints a, int b) {
  return _mm512_sub_epi32(a, _mm512_set1_epi32(b));
}
template <int n>
Ints shift_left(Ints a) {
  return _mm512_slli_epi32(a, n);
}
template <int n>
Ints shift_right(Ints a) {
  return _mm512_srli_epi32(a, n);
}
inline Ints broadcast_int(int32_t value) {
  return _mm512_set1_epi32(value);
}
inline Floats to_floats(Ints a) {
  return _mm512_cvtepi32_ps(a);
}

inline Floats zero_floats() {
  return _mm512_setzero_ps();
}
inline Floats broadcast(float value) {
  return _mm512_set1_ps(value);
}
inline Floats load_floats(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store_floats(float* p, Floats v) {
  _mm512_storeu_ps(p, v);
}
inline Floats add(Floats a, Floats b) {
  return _mm512_add_ps(a, b);
}
inline Floats mul(Floats a, Floats b) {
  return _mm512_mul_ps(a, b);
}
// a * b + c, rounded once
inline Floats fma(Floats a, Floats b, Floats c) {
  return _mm512_fmadd_ps(a, b, c);
}
// c - a * b, rounded once
inline Floats fnma(Floats a, Floats b, Floats c) {
  return _mm512_fnmadd_ps(a, b, c);
}
inline Floats load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Floats load_bf16(const uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline Bytes broadcast_4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return _mm512_set1_epi32(four);
}

// start + the sum over kGroups groups of 4 columns of codes[group][row] * q[column], exact. One chain of instructions
// that take 5 cycles each: those of other steps and tokens are under way beside it, and a second chain asks for an
// addition.
template <int kMaxCode, int kGroups>
Ints dot_unsigned(const Bytes* codes, const int8_t* q, Ints start) {
  for (int g = 0; g < kGroups; ++g) start = _mm512_dpbusd_epi32(start, codes[g], broadcast_4(q + 4 * g));
  return start;
}
template <int kGroups>
Ints dot_signed(const Bytes* codes, const int8_t* q, Ints start) {
  return dot_unsigned<255, kGroups>(codes, q, start);  // the caller takes the bias out
}
