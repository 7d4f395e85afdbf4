// What each instruction set provides to cpu_peaks.cc: loops that read and multiply as fast as it can, with nothing
// around. One translation unit each, under the rules of linear_kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spate::cpu {

inline constexpr size_t kReadUnit = 1024;  // bytes; reads are of whole ones

struct PeakLoop {
  // Returns a number that depends on the work, so that none of it is left out.
  int64_t (*run)(int64_t n_rounds) = nullptr;
  int64_t multiply_adds_per_round = 0;
};

struct PeakKernels {
  int64_t (*read)(const std::byte* data, size_t n_bytes) = nullptr;
  PeakLoop int8, float32;
  PeakLoop bf16 = {};  // run is null without instructions for it
};

const PeakKernels& portable_peak_kernels();
const PeakKernels& avx2_peak_kernels();
const PeakKernels& avx512_peak_kernels();
const PeakKernels& amx_peak_kernels();

}  // namespace spate::cpu
