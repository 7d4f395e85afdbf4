// How a CTA of matmul_wide.cuh is laid out, for the host that plans it and the kernel.
#pragma once

#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

inline constexpr int kWideWarpsLog2 = 4;
inline constexpr int kWideWarps = 1 << kWideWarpsLog2;      // that multiply
inline constexpr int kWideThreads = 32 * (kWideWarps + 4);  // with a warpgroup of which one warp fetches activations
// Registers a thread of the warpgroups that multiply and of the one that does not; of 640 threads the compiler gives
// each 96, and only as many can be handed over.
inline constexpr int kWideManyRegisters = 112, kWideFewRegisters = 32;
static_assert(kWideWarps * kWideManyRegisters + 4 * kWideFewRegisters <= kWideThreads / 32 * 96);
inline constexpr int kWideBoxCols = 64;  // of activations that a tensor copy brings: rows of 128 bytes
inline constexpr int kWideBoxes = 2;     // of a stage and tile
inline constexpr int kWideStageCols = kWideBoxes * kWideBoxCols;
inline constexpr int kWideStaticBytes = 2048;  // of shared memory at most, of the kernel's own
inline constexpr int kWideAlignment = 1024;    // of the activations in shared memory

// Of products of parts of two types, at most: their CTAs take 32 or 64 tokens, and more are multiplied part by part.
inline constexpr int kWidePairTokens = 64;

// A warp's weights come by tiles; those of 8 KB by halves, which lie one behind the other.
SPATE_HD constexpr int wide_chunks_per_tile(int tile_bytes) {
  return tile_bytes > 4352 ? 2 : 1;
}

// Bytes from the first aligned address on: the ring of activations, the rings of weights, the barriers. The sums'
// exchange takes the same memory afterwards.
struct WideLayout {
  int x_stage, weights, weights_of_warp, barriers, n_bytes;

  SPATE_HD static constexpr WideLayout of(const WideShape& shape, int n_tokens, int warps_k, int tile_bytes) {
    WideLayout at{};
    at.x_stage = warps_k * n_tokens * kWideStageCols * 2;
    at.weights = shape.x_stages * at.x_stage;
    at.weights_of_warp = shape.weight_stages * (tile_bytes / wide_chunks_per_tile(tile_bytes));
    at.barriers = at.weights + kWideWarps * at.weights_of_warp;
    at.n_bytes = at.barriers + 8 * (2 * shape.x_stages + kWideWarps * shape.weight_stages + 1);
    return at;
  }
};

}  // namespace spate::cuda
