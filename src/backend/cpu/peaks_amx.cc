// Peaks of AMX: products of full tiles of int8 and of bfloat16. All else is AVX-512's.
#include <immintrin.h>

#include "backend/cpu/peak_kernels.h"

namespace spate::cpu {

namespace {

#include "backend/cpu/simd_amx.h"

// Tiles 0 to 3 are sums of 16 x 16, of the four products of tiles 4 and 5 with 6 and 7, which are of 16 rows of 64
// bytes.
void start_tiles() {
  alignas(64) TileConfig config;
  finish_stores();
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
}

int64_t multiply_int8(int64_t n_rounds) {
  start_tiles();
  for (int64_t round = 0; round < n_rounds; ++round) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
  return n_rounds;
}

int64_t multiply_bf16(int64_t n_rounds) {
  start_tiles();
  for (int64_t round = 0; round < n_rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return n_rounds;
}

}  // namespace

const PeakKernels& amx_peak_kernels() {
  static const PeakKernels kKernels = {.read = avx512_peak_kernels().read,
                                       .int8 = {.run = multiply_int8, .multiply_adds_per_round = 4 * 16 * 16 * 64},
                                       .float32 = avx512_peak_kernels().float32,
                                       .bf16 = {.run = multiply_bf16, .multiply_adds_per_round = 4 * 16 * 16 * 32}};
  return kKernels;
}

}  // namespace spate::cpu
