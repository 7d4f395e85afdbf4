// The product of 1 to 8 tokens as float16, for devices with bulk copies: the tensor-core product of matmul_mma.cuh by
// CTAs that stay, one an SM, each with its share of the panels.
//
// A panel's K is cut into segments of some chunks. The CTA's segments (all of its first panel, then of its second, ...)
// go round the multiplying warps, each of which has a ring of chunks in shared memory, filled by bulk copies that it
// starts itself. So memory is read without a pause over the ends of panels, and before the kernel's predecessor has
// ended. A warp leaves its sums of a segment in shared memory and goes on; two further warps add them up, in order, and
// write them; where a norm is folded into the product, its factors are these warps' business too. Nobody waits at a
// barrier of the CTA once the kernel's predecessor has ended.
//
// The activations of all columns are in shared memory: those of 8 tokens leave long rows no room (matmul_few.cuh). So K
// may be shared between the CTAs of a cluster. Each has its share of the K of all panels of the cluster, and the
// activations of that; the panels' sums meet in these CTAs in turn, through each other's shared memory, and are written
// there.
//
// The order of additions is the plan's alone: of the shape and the device, not of timing or of what else is in a step.
#pragma once

#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_mma.cuh"

namespace spate::cuda {

inline constexpr int kFinishers = 2;  // warps that write

// Warps of a CTA that multiply, at most: 14 have 128 registers each, 22 have 80.
SPATE_HD constexpr int max_stream_warps(int tile_bytes, bool two_types) {
  return tile_bytes > 4096 || two_types ? 14 : 22;
}

// Chunks are whole tiles; of float16, which would leave room for few, halves of them: 16 rows by 128 columns.
inline constexpr int kHalfTileChunks = 2;
SPATE_HD constexpr int chunks_per_tile(int tile_bytes) {
  return tile_bytes == HalfTile::kBytes ? kHalfTileChunks : 1;
}

// The K tiles of a CTA, number `rank` of 2^cluster_log2 that share K.
struct KShare {
  int first, n;

  SPATE_HD static constexpr KShare of(int n_k_tiles, int cluster_log2, int rank) {
    const int first = n_k_tiles * rank >> cluster_log2;
    return {first, (n_k_tiles * (rank + 1) >> cluster_log2) - first};
  }
  // Tiles of the CTA that has most.
  SPATE_HD static constexpr int most(int n_k_tiles, int cluster_log2) {
    return (n_k_tiles + (1 << cluster_log2) - 1) >> cluster_log2;
  }
};

// What a CTA keeps besides sums: activations of all its columns, and chunks of weights.
struct StreamBytes {
  int activations, chunk;
};
// Of a CTA with n_tiles of K.
SPATE_HD constexpr StreamBytes float16_stream(int n_tiles, int tokens_log2, int chunk_bytes) {
  return {(n_tiles * kTokenTileBytes) << tokens_log2, chunk_bytes};
}

// Where things lie in a CTA's shared memory: the activations, the rings, the sums, the barriers.
struct StreamLayout {
  int ring, ring_of_warp, sums, barriers, n_bytes;  // the first is 0: activations

  SPATE_HD static StreamLayout of(const StreamShape& shape, const StreamBytes& bytes, int tokens_log2) {
    StreamLayout at{};
    at.ring = bytes.activations;
    at.ring_of_warp = shape.n_stages * bytes.chunk;
    at.sums = at.ring + shape.n_warps * at.ring_of_warp;
    at.barriers =
        at.sums + ((shape.n_segments * kTileRows * 4) << (shape.cluster_log2 + shape.places_log2 + tokens_log2));
    at.n_bytes = at.barriers + 8 * shape.n_warps * shape.n_stages + (16 << shape.places_log2);
    return at;
  }
};

// Runs products of parts of type `first` and, behind them, of type `second` (MatmulPart::second); of one type where
// both are the same. Null: there is no such kernel. On devices with bulk copies alone (DeviceProfile::stream_tokens),
// as plan_stream() says.
using StreamKernel = cudaError_t (*)(const MmaParams& params, const Launch& how);
StreamKernel stream_kernel(QuantType first, QuantType second);

// Of the K-quants and IQ4_XS, alone and in pairs. In a translation unit of its own.
StreamKernel stream_kernel_of_superblocks(QuantType first, QuantType second);

}  // namespace spate::cuda
