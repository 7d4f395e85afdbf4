// Stands before the compiler's <immintrin.h> for the emulated tests: the AVX-512 and AMX intrinsics that the CPU's
// kernels use, written out from Intel's descriptions as loops over lanes, so that those kernels run on any
// processor with AVX2. Their 512-bit types are the compiler's own, which it splits.
#pragma once

#include <cstdint>
#include <cstring>
#include_next <immintrin.h>

namespace emulated {

template <typename T>
struct Lanes512 {
  T lane[64 / sizeof(T)];
};
template <typename T, typename Vector>
Lanes512<T> lanes(const Vector& v) {
  static_assert(sizeof(Vector) == 64);
  Lanes512<T> out;
  std::memcpy(&out, &v, 64);
  return out;
}
template <typename Vector, typename T>
Vector vector(const Lanes512<T>& in) {
  Vector out;
  std::memcpy(&out, &in, 64);
  return out;
}
// out[i] = fn(a[i], ...)
template <typename T, typename Vector, typename Fn, typename... Vectors>
Vector each(Fn fn, const Vector& a, const Vectors&... rest) {
  Lanes512<T> out = lanes<T>(a);
  for (size_t i = 0; i < 64 / sizeof(T); ++i) out.lane[i] = fn(lanes<T>(a).lane[i], lanes<T>(rest).lane[i]...);
  return vector<Vector>(out);
}
template <typename Vector, typename T>
Vector all(T value) {
  Lanes512<T> out;
  for (T& lane : out.lane) lane = value;
  return vector<Vector>(out);
}
// int32 lanes from 16 narrower numbers
template <typename From, typename Narrow>
__m512i widen(const Narrow& v) {
  static_assert(sizeof(Narrow) == 16 * sizeof(From));
  From in[16];
  std::memcpy(in, &v, sizeof in);
  Lanes512<int32_t> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = in[i];
  return vector<__m512i>(out);
}
template <typename Vector>
Vector load(const void* p) {
  Vector v;
  std::memcpy(&v, p, 64);
  return v;
}

inline __m512i shuffle_epi8(__m512i table, __m512i index) {
  const auto t = lanes<uint8_t>(table), i = lanes<uint8_t>(index);
  Lanes512<uint8_t> out;
  for (int n = 0; n < 64; ++n) out.lane[n] = (i.lane[n] & 0x80) != 0 ? 0 : t.lane[n / 16 * 16 + (i.lane[n] & 15)];
  return vector<__m512i>(out);
}
// Lane i takes lane index[i] of v; where its bit of the mask is 0, that of `otherwise`.
template <typename T, typename Vector>
Vector permute(Vector otherwise, uint64_t mask, __m512i index, Vector v) {
  auto out = lanes<T>(otherwise);
  const auto in = lanes<T>(v), from = lanes<T>(index);
  for (size_t i = 0; i < 64 / sizeof(T); ++i)
    if ((mask >> i & 1) != 0) out.lane[i] = in.lane[from.lane[i] % (64 / sizeof(T))];
  return vector<Vector>(out);
}
// To the nearest bfloat16, ties to even; a denormal is 0, a NaN becomes quiet.
inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000) == 0) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline __m512bh cvtne2ps_pbh(__m512 high, __m512 low) {
  Lanes512<uint16_t> out;
  for (int i = 0; i < 16; ++i) {
    out.lane[i] = to_bf16(lanes<float>(low).lane[i]);
    out.lane[16 + i] = to_bf16(lanes<float>(high).lane[i]);
  }
  return vector<__m512bh>(out);
}
inline __m512i broadcast_i32x4(__m128i v) {
  __m512i out;
  for (int n = 0; n < 4; ++n) std::memcpy(reinterpret_cast<char*>(&out) + 16 * n, &v, 16);
  return out;
}
inline __m512 cvtph_ps(__m256i v) {
  __m512 out;
  const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(v)), high = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
  std::memcpy(&out, &low, 32);
  std::memcpy(reinterpret_cast<char*>(&out) + 32, &high, 32);
  return out;
}
inline __m512 cvtepi32_ps(__m512i v) {
  const auto in = lanes<int32_t>(v);
  Lanes512<float> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<float>(in.lane[i]);
  return vector<__m512>(out);
}
inline __m512i dpbusd(__m512i acc, __m512i a, __m512i b) {
  auto out = lanes<int32_t>(acc);
  const auto x = lanes<uint8_t>(a);
  const auto y = lanes<int8_t>(b);
  for (int i = 0; i < 64; ++i) out.lane[i / 4] += x.lane[i] * y.lane[i];
  return vector<__m512i>(out);
}

// The tile registers of a thread and their configuration. Using a tile that is not configured, or outside its shape, is
// the kernel's error: it reads as garbage rather than as zeros.
struct Tiles {
  uint8_t rows[8], data[8][16][64];
  uint16_t row_bytes[8];
};
inline thread_local Tiles tiles;

inline void tile_release() {
  std::memset(&tiles, 0, sizeof tiles);
  std::memset(tiles.data, 0xcd, sizeof tiles.data);
}
inline void tile_loadconfig(const void* config) {
  tile_release();
  const auto* bytes = static_cast<const uint8_t*>(config);
  if (bytes[0] != 1) __builtin_trap();
  std::memcpy(tiles.row_bytes, bytes + 16, sizeof tiles.row_bytes);
  std::memcpy(tiles.rows, bytes + 48, sizeof tiles.rows);
}
inline void check_tile(int tile) {
  if (tiles.rows[tile] == 0 || tiles.rows[tile] > 16 || tiles.row_bytes[tile] == 0 || tiles.row_bytes[tile] > 64)
    __builtin_trap();
}
inline void tile_zero(int tile) {
  check_tile(tile);
  std::memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
}
inline void tile_loadd(int tile, const void* base, int64_t stride) {
  tile_zero(tile);
  for (int row = 0; row < tiles.rows[tile]; ++row)
    std::memcpy(tiles.data[tile][row], static_cast<const char*>(base) + row * stride, tiles.row_bytes[tile]);
}
inline void tile_stored(int tile, void* base, int64_t stride) {
  check_tile(tile);
  for (int row = 0; row < tiles.rows[tile]; ++row)
    std::memcpy(static_cast<char*>(base) + row * stride, tiles.data[tile][row], tiles.row_bytes[tile]);
}
// c[m][n] += sum over k of a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1], in bfloat16
inline void tile_dpbf16ps(int c, int a, int b) {
  check_tile(a);
  check_tile(b);
  check_tile(c);
  if (tiles.rows[a] != tiles.rows[c] || tiles.row_bytes[b] != tiles.row_bytes[c]) __builtin_trap();
  if (tiles.row_bytes[a] != 4 * tiles.rows[b]) __builtin_trap();
  const auto value = [](const uint8_t* bytes) {
    uint16_t half;
    std::memcpy(&half, bytes, sizeof half);
    const uint32_t bits = uint32_t{half} << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  };
  for (int m = 0; m < tiles.rows[c]; ++m) {
    float sums[16], products[2][16] = {};
    std::memcpy(sums, tiles.data[c][m], sizeof sums);
    for (int k = 0; k < tiles.rows[b]; ++k)
      for (int part = 0; part < 2; ++part) {
        const float x = value(tiles.data[a][m] + 4 * k + 2 * part);
        for (int n = 0; n < tiles.row_bytes[b] / 4; ++n)
          products[part][n] = __builtin_fmaf(x, value(tiles.data[b][k] + 4 * n + 2 * part), products[part][n]);
      }
    for (int n = 0; n < 16; ++n) sums[n] += products[0][n] + products[1][n];
    std::memcpy(tiles.data[c][m], sums, sizeof sums);
  }
}

// c[m][n] += sum over k of a[m][4 k + i] b[k][4 n + i], i from 0 to 3, of int8
inline void tile_dpbssd(int c, int a, int b) {
  check_tile(a);
  check_tile(b);
  check_tile(c);
  if (tiles.rows[a] != tiles.rows[c] || tiles.row_bytes[b] != tiles.row_bytes[c]) __builtin_trap();
  if (tiles.row_bytes[a] != 4 * tiles.rows[b]) __builtin_trap();
  for (int m = 0; m < tiles.rows[c]; ++m) {
    int32_t sums[16];
    std::memcpy(sums, tiles.data[c][m], sizeof sums);
    for (int k = 0; k < tiles.rows[b]; ++k)
      for (int n = 0; n < tiles.row_bytes[b]; ++n)
        sums[n / 4] += static_cast<int8_t>(tiles.data[a][m][4 * k + n % 4]) * static_cast<int8_t>(tiles.data[b][k][n]);
    std::memcpy(tiles.data[c][m], sums, sizeof sums);
  }
}

template <int comparison>
__mmask16 cmp_ps_mask(__m512 a, __m512 b) {
  static_assert(comparison == _CMP_GE_OQ);
  const auto x = lanes<float>(a), y = lanes<float>(b);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= (x.lane[i] >= y.lane[i] ? 1u : 0u) << i;
  return static_cast<__mmask16>(mask);
}
inline __m512 mask_mov_ps(__m512 otherwise, __mmask16 mask, __m512 v) {
  auto out = lanes<float>(otherwise);
  const auto in = lanes<float>(v);
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) out.lane[i] = in.lane[i];
  return vector<__m512>(out);
}

inline __m256i cvtps_ph(__m512 v) {
  __m256 halves[2];
  std::memcpy(halves, &v, 64);
  return _mm256_set_m128i(_mm256_cvtps_ph(halves[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                          _mm256_cvtps_ph(halves[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m512i cvtps_epi32(__m512 v) {
  const auto in = lanes<float>(v);
  Lanes512<int32_t> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<int32_t>(__builtin_nearbyintf(in.lane[i]));
  return vector<__m512i>(out);
}
template <int half, typename Half, typename Vector>
Half half_of(Vector v) {
  Half out;
  std::memcpy(&out, reinterpret_cast<const char*>(&v) + 32 * half, 32);
  return out;
}

}  // namespace emulated

// f32x16.h takes its 512-bit lanes from here on.
#define __AVX512F__ 1

// Some are macros already, depending on the optimisation level.
#undef _mm512_loadu_si512
#undef _mm512_loadu_ps
#undef _mm512_storeu_si512
#undef _mm512_storeu_ps
#undef _mm512_setzero_si512
#undef _mm512_setzero_ps
#undef _mm512_set1_epi8
#undef _mm512_set1_epi32
#undef _mm512_set1_ps
#undef _mm512_or_si512
#undef _mm512_and_si512
#undef _mm512_xor_si512
#undef _mm512_slli_epi16
#undef _mm512_srli_epi16
#undef _mm512_slli_epi32
#undef _mm512_srli_epi32
#undef _mm512_add_epi32
#undef _mm512_sub_epi32
#undef _mm512_sub_epi8
#undef _mm512_add_ps
#undef _mm512_mul_ps
#undef _mm512_fmadd_ps
#undef _mm512_fnmadd_ps
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_sub_ps
#undef _mm512_cmp_ps_mask
#undef _mm512_mask_mov_ps
#undef _mm512_castps_si512
#undef _mm512_castsi512_ps
#undef _mm512_cvtph_ps
#undef _mm512_shuffle_epi8
#undef _mm512_broadcast_i32x4
#undef _mm512_dpbusd_epi32
#undef _mm512_permutexvar_ps
#undef _mm512_permutexvar_epi16
#undef _mm512_mask_permutexvar_epi8
#undef _mm512_maskz_permutexvar_epi8
#undef _mm512_cvtne2ps_pbh
#undef _mm512_div_ps
#undef _mm512_max_ps
#undef _mm512_min_ps
#undef _mm512_roundscale_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtps_ph
#undef _mm512_maskz_mov_ps
#undef _mm512_castps512_ps256
#undef _mm512_castps_pd
#undef _mm512_extractf64x4_pd
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbssd

#define _mm512_loadu_si512(p) emulated::load<__m512i>(p)
#define _mm512_loadu_ps(p) emulated::load<__m512>(p)
#define _mm512_storeu_si512(p, v) static_cast<void>(std::memcpy(p, &(v), 64))
#define _mm512_storeu_ps(p, v) static_cast<void>(std::memcpy(p, &(v), 64))
#define _mm512_setzero_si512() emulated::all<__m512i>(0)
#define _mm512_setzero_ps() emulated::all<__m512>(0.0f)
#define _mm512_set1_epi8(v) emulated::all<__m512i>(int8_t{v})
#define _mm512_set1_epi32(v) emulated::all<__m512i>(int32_t{v})
#define _mm512_set1_ps(v) emulated::all<__m512>(float{v})
#define _mm512_or_si512(a, b) ((a) | (b))
#define _mm512_and_si512(a, b) ((a) & (b))
#define _mm512_xor_si512(a, b) ((a) ^ (b))
#define _mm512_slli_epi16(v, n) emulated::each<uint16_t>([](int x) { return static_cast<uint16_t>(x << (n)); }, v)
#define _mm512_srli_epi16(v, n) emulated::each<uint16_t>([](int x) { return static_cast<uint16_t>(x >> (n)); }, v)
#define _mm512_slli_epi32(v, s) emulated::each<uint32_t>([](uint32_t x) { return x << (s); }, v)
#define _mm512_srli_epi32(v, s) emulated::each<uint32_t>([](uint32_t x) { return x >> (s); }, v)
#define _mm512_add_epi32(a, b) emulated::each<uint32_t>([](uint32_t x, uint32_t y) { return x + y; }, a, b)
#define _mm512_sub_epi32(a, b) emulated::each<uint32_t>([](uint32_t x, uint32_t y) { return x - y; }, a, b)
#define _mm512_sub_epi8(a, b) emulated::each<uint8_t>([](int x, int y) { return static_cast<uint8_t>(x - y); }, a, b)
#define _mm512_add_ps(a, b) emulated::each<float>([](float x, float y) { return x + y; }, a, b)
#define _mm512_mul_ps(a, b) emulated::each<float>([](float x, float y) { return x * y; }, a, b)
#define _mm512_fmadd_ps(a, b, c) \
  emulated::each<float>([](float x, float y, float z) { return __builtin_fmaf(x, y, z); }, a, b, c)
#define _mm512_fnmadd_ps(a, b, c) \
  emulated::each<float>([](float x, float y, float z) { return __builtin_fmaf(-x, y, z); }, a, b, c)
#define _mm512_cvtepu8_epi32(v) emulated::widen<uint8_t>(v)
#define _mm512_cvtepi8_epi32(v) emulated::widen<int8_t>(v)
#define _mm512_cvtepu16_epi32(v) emulated::widen<uint16_t>(v)
#define _mm512_cvtepi32_ps(v) emulated::cvtepi32_ps(v)
#define _mm512_sub_ps(a, b) emulated::each<float>([](float x, float y) { return x - y; }, a, b)
#define _mm512_cmp_ps_mask(a, b, comparison) emulated::cmp_ps_mask<comparison>(a, b)
#define _mm512_mask_mov_ps(otherwise, mask, v) emulated::mask_mov_ps(otherwise, mask, v)
#define _mm512_castps_si512(v) ((__m512i)(v))
#define _mm512_castsi512_ps(v) ((__m512)(v))
#define _mm512_cvtph_ps(v) emulated::cvtph_ps(v)
#define _mm512_shuffle_epi8(table, index) emulated::shuffle_epi8(table, index)
#define _mm512_broadcast_i32x4(v) emulated::broadcast_i32x4(v)
#define _mm512_dpbusd_epi32(acc, a, b) emulated::dpbusd(acc, a, b)
#define _mm512_permutexvar_ps(index, v) emulated::permute<uint32_t>(v, ~uint64_t{0}, index, v)
#define _mm512_permutexvar_epi16(index, v) emulated::permute<uint16_t>(v, ~uint64_t{0}, index, v)
#define _mm512_mask_permutexvar_epi8(otherwise, mask, index, v) emulated::permute<uint8_t>(otherwise, mask, index, v)
#define _mm512_maskz_permutexvar_epi8(mask, index, v) \
  emulated::permute<uint8_t>(emulated::all<__m512i>(0), mask, index, v)
#define _mm512_cvtne2ps_pbh(high, low) emulated::cvtne2ps_pbh(high, low)
#define _mm512_div_ps(a, b) emulated::each<float>([](float x, float y) { return x / y; }, a, b)
#define _mm512_max_ps(a, b) emulated::each<float>([](float x, float y) { return x > y ? x : y; }, a, b)
#define _mm512_min_ps(a, b) emulated::each<float>([](float x, float y) { return x < y ? x : y; }, a, b)
#define _mm512_roundscale_ps(v, mode) emulated::each<float>([](float x) { return __builtin_nearbyintf(x); }, v)
#define _mm512_cvtps_epi32(v) emulated::cvtps_epi32(v)
#define _mm512_cvtps_ph(v, mode) emulated::cvtps_ph(v)
#define _mm512_maskz_mov_ps(mask, v) emulated::mask_mov_ps(emulated::all<__m512>(0.0f), mask, v)
#define _mm512_castps512_ps256(v) emulated::half_of<0, __m256>(v)
#define _mm512_castps_pd(v) ((__m512d)(v))
#define _mm512_extractf64x4_pd(v, half) emulated::half_of<half, __m256d>(v)
#define _tile_loadconfig(config) emulated::tile_loadconfig(config)
#define _tile_release() emulated::tile_release()
#define _tile_zero(tile) emulated::tile_zero(tile)
#define _tile_loadd(tile, base, stride) emulated::tile_loadd(tile, base, stride)
#define _tile_stream_loadd(tile, base, stride) emulated::tile_loadd(tile, base, stride)
#define _tile_stored(tile, base, stride) emulated::tile_stored(tile, base, stride)
#define _tile_dpbssd(c, a, b) emulated::tile_dpbssd(c, a, b)
#define _tile_dpbf16ps(c, a, b) emulated::tile_dpbf16ps(c, a, b)
