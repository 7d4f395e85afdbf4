// The product of 1 or 2 tokens with quantised weights: a register GEMV with int8 activations (int8_activations.h) and
// four-way integer products, for every type but the float ones.
//
// A CTA takes 2^warps_m_log2 panels of 16 rows; its other warps share out the K of these, tile by tile. A lane loads
// its share of its warp's first tile before the kernel waits for its predecessor, and every half of the next one as
// soon as that half of this one has been multiplied, so that a warp always has a tile's bytes under way in the
// registers of one. Each CTA turns the activations into integers by itself: all of its warps take part, and a row of
// 4096 columns is 8 KB of the second-level cache.
//
// Where parts are of two types, all panels of a CTA are of one.
#pragma once

#include "backend/cuda/int8_activations.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

inline constexpr int kMaxGemvTokens = 2;
inline constexpr int kMaxGemvWarps = 16;

// Warps of a CTA at most. For tiles of up to 3 KB 64 registers a thread are enough, and two CTAs of 16 warps fit on an
// SM; other kernels get 80, and three of 8 warps.
SPATE_HD constexpr int max_gemv_warps(int tile_bytes, bool pair, int n_tokens) {
  return tile_bytes <= 3072 && !pair && n_tokens == 1 ? kMaxGemvWarps : 8;
}

// Where things lie in a CTA's shared memory; the first is 0: integers, [token][sub-block][32].
struct GemvLayout {
  int factors;   // [token][sub-block] SubblockFactors
  int exchange;  // [warps that share K][token][row] float
  int n_bytes;

  SPATE_HD static GemvLayout of(int n_tokens, int n_k_tiles, int n_warps) {
    const int n_subblocks = n_tokens * n_k_tiles * kTileSubblocks;
    GemvLayout at{};
    at.factors = n_subblocks * kSubblockCols;
    at.exchange = at.factors + n_subblocks * 16;
    at.n_bytes = at.exchange + n_warps * kTileRows * n_tokens * 4;
    return at;
  }
};

// Runs products of parts of type `first` and, behind them, of type `second` (MatmulPart::second); of one type where
// both are the same. Null: there is no such kernel. MmaParams::warps_m_log2 and the block are the plan's (GemvPlan);
// the grid is (1, CTAs, 1).
using GemvKernel = cudaError_t (*)(const MmaParams& params, const Launch& how);
GemvKernel gemv_kernel(QuantType first, QuantType second);

// Of the K-quants and IQ4_XS, alone and in pairs; of the others. In translation units of their own.
GemvKernel gemv_kernel_of_superblocks(QuantType first, QuantType second);
GemvKernel gemv_kernel_of_qblocks(QuantType type);

}  // namespace spate::cuda
