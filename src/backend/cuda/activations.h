// How activations that feed a matrix product lie in device memory, and what all kernels agree on about it.
//
// x[T, padded_cols(K)] float16, a row a token, columns permuted within each 128: the tensor cores' operands want, in
// each 16 columns of memory, the elements that one lane of a quad decodes from ITS sub-block of 32 weights
// (tile_codes.h). A producer (norm, attention, SwiGLU) writes element k of a row to k_position(k); columns from K to
// padded_cols(K) stay zero from the allocation on, and nobody writes them.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define SPATE_HD __host__ __device__
#else
#define SPATE_HD
#endif

namespace spate::cuda {

inline constexpr int kTileCols = 256;  // K of a weight tile, and what rows of activations are padded to
inline constexpr int kTileRows = 16;

SPATE_HD constexpr int padded_cols(int cols) {
  return (cols + kTileCols - 1) / kTileCols * kTileCols;
}

// Where column k of a row lies. In each 128 columns lane t (0..3) of a quad owns columns 32 t .. 32 t + 31; of these,
// four consecutive ones go to each 16 positions: two at 2 t, two at 8 + 2 t, as mma.m16n8k16 lays out its B operand.
SPATE_HD constexpr int k_position(int k) {
  const int lane = k / 32 % 4, n = k % 32;
  return k / 128 * 128 + n / 4 * 16 + n % 4 / 2 * 8 + lane * 2 + n % 2;
}

// SwiGLU's products can leave float16's range in models with massive activations: they are stored times this, and the
// product that reads them multiplies it away.
inline constexpr float kFfScale = 1.0f / 16;

}  // namespace spate::cuda
