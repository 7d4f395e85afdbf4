// The product of one token with quantised weights, for devices with bulk copies: int8 activations and four-way integer
// products (gemv_tile.h) by CTAs that stay (matmul_stream.h). Each CTA turns the activations into integers once, while
// its rings fill; a chunk is a tile.
//
// A CTA takes half of an SM's registers, and as long as there is room half of its shared memory: so the next kernel's
// CTA fits beside it, and fills its own rings while this one ends.
#pragma once

#include "backend/cuda/int8_quantise.cuh"
#include "backend/cuda/matmul_stream.h"

namespace spate::cuda {

inline constexpr int kMaxStreamInt8Tokens = 1;

// Warps of a CTA that multiply, at most. Two CTAs have an SM's registers: with 16 such warps 56 a thread, enough for
// tiles of up to 3 KB; with 14 64; with 12 72, which Q8_0 needs.
SPATE_HD constexpr int max_stream_int8_warps(int tile_bytes, bool pair) {
  return tile_bytes > 4096 ? 12 : tile_bytes > 3072 || pair ? 14 : 16;
}

// Of parts of one type or of two, whose integers differ in order.
SPATE_HD constexpr StreamBytes int8_stream(int n_k_tiles, int n_types, int tile_bytes) {
  return {n_types * n_k_tiles * (kInt8WordsBytes + kInt8FactorsBytes), tile_bytes};
}

// Runs products of parts of type `first` and, behind them, of type `second` (MatmulPart::second); of one type where
// both are the same. Null: there is no such kernel. MmaParams::stream and the launch are the plan's (plan_stream_int8).
using StreamInt8Kernel = cudaError_t (*)(const MmaParams& params, const Launch& how);
StreamInt8Kernel stream_int8_kernel(QuantType first, QuantType second);

// Of the K-quants and IQ4_XS, alone and in pairs; of the others. In translation units of their own.
StreamInt8Kernel stream_int8_kernel_of_superblocks(QuantType first, QuantType second);
StreamInt8Kernel stream_int8_kernel_of_qblocks(QuantType type);

}  // namespace spate::cuda
