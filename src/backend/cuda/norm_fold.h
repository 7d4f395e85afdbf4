// RMSNorm folded into the products around it (Zhang and Sennrich 2019: x[k] g[k] r, r = 1 / sqrt(mean(x^2) + epsilon)).
//
// r is known only when a whole row of the residual stream is. So the product that adds to the row writes the next
// product's activations without it, a[k] = float16(x[k] g[k] s), and the sums of squares of each 16 of its rows; the
// product that reads a multiplies its sums by r / s, and by then r is known. s is a power of two per token, and known
// before the row is: r of the norm before, rounded down to a power of two, over 16 (fold_scale).
//
// - Nothing overflows unless one addition makes an |x[k] g[k]| of 65504 * 16 (2^20, nearly) times 1 / r_before, the
// root
//   mean square that the row had. The massive activations of trained models are up to 10^5 (2^17) times the others (Sun
//   et al. 2024). What does overflow is cut to float16's largest, and the row's r, from float32 sums, stays right.
// - Nothing is lost: a is rounded by 2^-11 of itself at most, as it would be with r, or by 2^-25 where it is subnormal.
//   That is 2^-25 r / s <= 2^-20 r / r_before of the normalised row, whose mean square is 1 before g: where an addition
//   takes all but 1/32 of a row away, still 2^-15. epsilon bounds r, so that zeros leave room for what is added to
//   them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cuda_fp16.h>

#include "backend/cuda/activations.h"

namespace spate::cuda {

// A power of two for the activations of the norm after one whose factor was r: at most r / 16, over r / 32. In [2^-64,
// 2^56] whatever r is.
SPATE_HD inline float fold_scale(float r) {
  const float within = fminf(fmaxf(r, 0x1p-60f), 0x1p60f);  // of a NaN, the first
  return std::bit_cast<float>(std::bit_cast<uint32_t>(within) & 0x7f800000u) * (1.0f / 16);
}

// Floats between tokens of the sums of squares of rows of n elements: a sum of each kTileRows of them, the rest zero.
SPATE_HD constexpr int squares_stride(int n) {
  return ((n + kTileRows - 1) / kTileRows + 31) / 32 * 32;
}

// A norm that is missing from a product's activations.
struct FoldedNorm {
  const float* squares = nullptr;  // [T, squares_stride(K)] of the residual's rows; null: the activations are complete
  const float* scale = nullptr;    // [T] s of the activations
  float* next_scale = nullptr;     // [T] receives fold_scale(r), s of the next norm's activations
  float epsilon = 0;
};

// The activations that a product which adds to the residual leaves for the norm after it.
struct NextNorm {
  __half* x = nullptr;            // [T, padded_cols(n_rows)] permuted (activations.h); null: none are wanted
  const float* weight = nullptr;  // [n_rows] g
  const float* scale = nullptr;   // [T] s
  float* squares = nullptr;       // [T, squares_stride(n_rows)], whose padding is zero and stays so
};

}  // namespace spate::cuda
