// Peaks of AVX2 and FMA.
#include <immintrin.h>

#include "backend/cpu/peak_kernels.h"

namespace spate::cpu {

namespace {

int64_t read(const std::byte* data, size_t n_bytes) {
  __m256i sums[8];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (size_t at = 0; at < n_bytes; at += sizeof sums)
    for (int i = 0; i < 8; ++i)
      sums[i] = _mm256_or_si256(sums[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + at) + i));
  for (int i = 1; i < 8; ++i) sums[0] = _mm256_or_si256(sums[0], sums[i]);
  return _mm256_extract_epi64(sums[0], 0) | _mm256_extract_epi64(sums[0], 2);
}

// The shortest way that AVX2 has: unsigned times signed bytes, neighbours added as int16, sums kept as int16. Weights
// of 8 bits overflow that and take two instructions more.
int64_t multiply_int8(int64_t n_rounds) {
  constexpr int kSums = 6;
  __m256i a = _mm256_set1_epi8(1), b[kSums], sums[kSums];
  for (int i = 0; i < kSums; ++i) {
    b[i] = _mm256_set1_epi8(1);
    asm volatile("" : "+x"(b[i]));  // to the compiler six different operands
    sums[i] = _mm256_setzero_si256();
  }
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+x"(a));  // to the compiler another operand every time
    for (int i = 0; i < kSums; ++i) sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(a, b[i]));
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi16(sums[0], sums[i]);
  return _mm256_extract_epi64(sums[0], 0);
}

int64_t multiply_float32(int64_t n_rounds) {
  constexpr int kSums = 12;  // more than latency times throughput, 4 or 5 cycles times 2
  __m256 a = _mm256_set1_ps(1), b = _mm256_set1_ps(0x1p-20f), sums[kSums];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+x"(a), "+x"(b));
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(a, b, sum);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return static_cast<int64_t>(_mm256_cvtss_f32(sums[0]));
}

}  // namespace

const PeakKernels& avx2_peak_kernels() {
  static constexpr PeakKernels kKernels = {.read = read,
                                           .int8 = {.run = multiply_int8, .multiply_adds_per_round = 6 * 32},
                                           .float32 = {.run = multiply_float32, .multiply_adds_per_round = 12 * 8}};
  return kKernels;
}

}  // namespace spate::cpu
