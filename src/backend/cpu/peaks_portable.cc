// Peaks in C++ alone: what the compiler makes of plain loops.
#include "backend/cpu/peak_kernels.h"

namespace spate::cpu {

namespace {

constexpr int kWidth = 64;  // independent sums

int64_t read(const std::byte* data, size_t n_bytes) {
  uint64_t sums[8] = {};
  for (size_t at = 0; at < n_bytes; at += sizeof sums)
    for (size_t i = 0; i < 8; ++i) {
      uint64_t word;
      __builtin_memcpy(&word, data + at + 8 * i, sizeof word);
      sums[i] |= word;
    }
  uint64_t all = 0;
  for (const uint64_t sum : sums) all |= sum;
  return static_cast<int64_t>(all);
}

int64_t multiply_int8(int64_t n_rounds) {
  int8_t a[kWidth], b[kWidth];
  int32_t sums[kWidth] = {};
  for (int i = 0; i < kWidth; ++i) a[i] = b[i] = static_cast<int8_t>(i);
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+m"(a), "+m"(b));
    for (int i = 0; i < kWidth; ++i) sums[i] += int32_t{a[i]} * b[i];
  }
  int64_t all = 0;
  for (const int32_t sum : sums) all += sum;
  return all;
}

int64_t multiply_float32(int64_t n_rounds) {
  float a[kWidth], b[kWidth], sums[kWidth] = {};
  for (int i = 0; i < kWidth; ++i) a[i] = b[i] = static_cast<float>(i) * 0x1p-30f;
  for (int64_t round = 0; round < n_rounds; ++round) {
    asm volatile("" : "+m"(a), "+m"(b));
    for (int i = 0; i < kWidth; ++i) sums[i] += a[i] * b[i];
  }
  float all = 0;
  for (const float sum : sums) all += sum;
  return static_cast<int64_t>(all);
}

}  // namespace

const PeakKernels& portable_peak_kernels() {
  static constexpr PeakKernels kKernels = {.read = read,
                                           .int8 = {.run = multiply_int8, .multiply_adds_per_round = kWidth},
                                           .float32 = {.run = multiply_float32, .multiply_adds_per_round = kWidth}};
  return kKernels;
}

}  // namespace spate::cpu
