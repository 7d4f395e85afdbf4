// What a register GEMV makes of a row of activations, computed on the host with the kernel's own arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backend/cuda/int8_activations.h"

namespace spate::cuda::testing {

struct Int8Row {
  std::vector<int8_t> integers;  // [n_cols]
  std::vector<float> scales;     // [n_cols / 32]
  double value(int k) const { return double{scales[k / kSubblockCols]} * integers[k]; }
};

// x: float16 values, a multiple of 32 of them.
inline Int8Row quantise_row(const std::vector<float>& x) {
  Int8Row row;
  for (size_t first = 0; first < x.size(); first += kSubblockCols) {
    // As the kernel, of the bits: what is not a number is the largest.
    uint32_t largest = 0;
    for (size_t k = first; k < first + kSubblockCols; ++k)
      largest = std::max<uint32_t>(largest, f32_to_f16(x[k]) & 0x7fff);
    const Int8Scale scale = int8_scale(low_float(largest));
    row.scales.push_back(scale.scale);
    for (size_t k = first; k < first + kSubblockCols; ++k)
      row.integers.push_back(static_cast<int8_t>(int8_bits(x[k], scale.inverse)));
  }
  return row;
}

}  // namespace spate::cuda::testing
