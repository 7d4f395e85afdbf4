// The product of 1 to 8 tokens with quantised weights, for devices with bulk copies: int8 activations and integer
// products, of one token four at a time (gemv_tile.h), of more by the tensor cores (int8_mma_tile.h), by CTAs that stay
// (matmul_stream.h). Each CTA turns the activations into integers once, while its rings fill; a chunk is a tile.
#pragma once

#include "backend/cuda/int8_mma_tile.h"
#include "backend/cuda/matmul_stream.h"

namespace spate::cuda {

inline constexpr int kMaxStreamInt8Tokens = 8;

// Warps of a CTA that multiply, at most. Of one token they leave half of an SM's registers to the kernels beside it:
// with 16 such warps 56 a thread, enough for tiles of up to 3 KB; with 14 64; with 12 72, which Q8_0 needs. Of more
// tokens they have 96 with 16 warps and 128 with 14, which two types need.
SPATE_HD constexpr int max_stream_int8_warps(bool one_token, int tile_bytes, bool pair) {
  if (!one_token) return pair ? 14 : 16;
  return tile_bytes > 4096 ? 12 : tile_bytes > 3072 || pair ? 14 : 16;
}

// Tokens are multiplied one alone or in pairs: groups of n_tokens.
SPATE_HD constexpr int int8_groups(int n_tokens) {
  return (n_tokens + 1) / 2;
}
// activation_bytes: of a group's for each K tile (StreamInt8Kernel).
SPATE_HD constexpr StreamBytes int8_stream(int n_k_tiles, int n_tokens, int activation_bytes, int tile_bytes) {
  return {n_k_tiles * int8_groups(n_tokens) * activation_bytes, tile_bytes};
}

// Products of parts of one type or, behind these, of a second one (MatmulPart::second), whose integers differ in order.
struct StreamInt8Kernel {
  cudaError_t (*launch)(const MmaParams& params, const Launch& how);
  int activation_bytes;  // for each K tile: of a token, or of a pair of tokens
};

// Of products of one token, and of more: launched as plan_stream_int8() says. Null: there is no such kernel.
struct StreamInt8Kernels {
  StreamInt8Kernel one, few;
};
const StreamInt8Kernels* stream_int8_kernels(QuantType first, QuantType second);

// Of the K-quants and IQ4_XS, alone and in pairs; of the others. In translation units of their own.
const StreamInt8Kernels* stream_int8_kernels_of_superblocks(QuantType first, QuantType second);
const StreamInt8Kernels* stream_int8_kernels_of_qblocks(QuantType type);

}  // namespace spate::cuda
