// Peaks of AVX-512 with VNNI.
#include <immintrin.h>

#include "backend/cpu/peak_kernels.h"

namespace spate::cpu {

namespace {

constexpr int kSums = 12;  // more than latency times throughput, 4 or 5 cycles times 2

int64_t read(const std::byte* data, size_t n_bytes) {
  __m512i sums[8];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (size_t at = 0; at < n_bytes; at += sizeof sums)
    for (int i = 0; i < 8; ++i) sums[i] = _mm512_or_si512(sums[i], _mm512_loadu_si512(data + at + 64 * i));
  for (int i = 1; i < 8; ++i) sums[0] = _mm512_or_si512(sums[0], sums[i]);
  return _mm512_reduce_or_epi64(sums[0]);
}

int64_t multiply_int8(int64_t n_rounds) {
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1), sums[kSums];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+v"(a), "+v"(b));
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return _mm512_reduce_add_epi32(sums[0]);
}

int64_t multiply_float32(int64_t n_rounds) {
  __m512 a = _mm512_set1_ps(1), b = _mm512_set1_ps(0x1p-20f), sums[kSums];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+v"(a), "+v"(b));
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return static_cast<int64_t>(_mm512_reduce_add_ps(sums[0]));
}

}  // namespace

const PeakKernels& avx512_peak_kernels() {
  static constexpr PeakKernels kKernels = {.read = read,
                                           .int8 = {.run = multiply_int8, .multiply_adds_per_round = kSums * 64},
                                           .float32 = {.run = multiply_float32, .multiply_adds_per_round = kSums * 16}};
  return kKernels;
}

}  // namespace spate::cpu
