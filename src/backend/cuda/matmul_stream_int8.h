// The product of one token with quantised weights, for devices with bulk copies: int8 activations and four-way integer
// products (gemv_tile.h) by CTAs that stay (matmul_stream.h). Each CTA turns the activations into integers once, while
// its rings fill; a chunk is a tile.
#pragma once

#include "backend/cuda/gemv_tile.h"
#include "backend/cuda/matmul_stream.h"

namespace spate::cuda {

inline constexpr int kMaxStreamInt8Tokens = 1;

// Warps of a CTA that multiply, at most. They leave half of an SM's registers to the kernels beside them: with 16 such
// warps 56 a thread, enough for tiles of up to 3 KB; with 14 64; with 12 72, which Q8_0 needs.
SPATE_HD constexpr int max_stream_int8_warps(int tile_bytes, bool two_types) {
  return tile_bytes > 4096 ? 12 : tile_bytes > 3072 || two_types ? 14 : 16;
}

// What a token's columns of a K tile take: integers, [sub-block][32], and SubblockFactors.
inline constexpr int kInt8TileBytes = kTileCols + kTileSubblocks * static_cast<int>(sizeof(SubblockFactors));

// Of parts of one type or of two, whose integers differ in order.
SPATE_HD constexpr StreamBytes int8_stream(int n_k_tiles, bool two_types, int tile_bytes) {
  return {(two_types ? 2 : 1) * n_k_tiles * kInt8TileBytes, tile_bytes};
}

// As stream_kernel(), launched as plan_stream_int8() says.
StreamKernel stream_int8_kernel(QuantType first, QuantType second);

// Of the K-quants and IQ4_XS, alone and in pairs; of the others. In translation units of their own.
StreamKernel stream_int8_kernel_of_superblocks(QuantType first, QuantType second);
StreamKernel stream_int8_kernel_of_qblocks(QuantType type);

}  // namespace spate::cuda
