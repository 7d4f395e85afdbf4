// The product of 1 to 8 tokens with float16 weights, for devices with bulk copies: the tensor-core product of
// matmul_mma.cuh by CTAs that stay, one an SM, each with its share of the panels.
//
// A panel's K is cut into segments of some chunks. The CTA's segments (all of its first panel, then of its second, ...)
// go round the multiplying warps, each of which has a ring of chunks in shared memory, filled by bulk copies that it
// starts itself. So memory is read without a pause over the ends of panels, and before the kernel's predecessor has
// ended. A warp leaves its sums of a segment in shared memory and goes on; two further warps add them up, in order, and
// write them. Nobody waits at a barrier of the CTA.
//
// Weights that must be decoded leave these warps too little time: matmul_few.cuh (docs/performance.md); as int8 those
// of one token do not: matmul_stream_int8.h.
//
// The order of additions is the plan's alone: of the shape and the device, not of timing or of what else is in a step.
#pragma once

#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_mma.cuh"

namespace spate::cuda {

inline constexpr int kMaxStreamWarps = 14;  // that multiply
inline constexpr int kFinishers = 2;        // warps that write

// A chunk is half a tile: 16 rows by 128 columns.
inline constexpr int kChunksPerTile = 2;
inline constexpr int kChunkBytes = TileFormat<QuantType::kF16>::kBytes / kChunksPerTile;

// What a CTA keeps besides sums: activations of all columns, and chunks of weights.
struct StreamBytes {
  int activations, chunk;
};
SPATE_HD constexpr StreamBytes float16_stream(int n_k_tiles, int tokens_log2) {
  return {(n_k_tiles * kTokenTileBytes) << tokens_log2, kChunkBytes};
}

// Where things lie in a CTA's shared memory: the activations, the rings, the sums, the barriers.
struct StreamLayout {
  int ring, ring_of_warp, sums, barriers, n_bytes;  // the first is 0: activations

  SPATE_HD static StreamLayout of(const StreamShape& shape, const StreamBytes& bytes, int tokens_log2) {
    StreamLayout at{};
    at.ring = bytes.activations;
    at.ring_of_warp = shape.n_stages * bytes.chunk;
    at.sums = at.ring + shape.n_warps * at.ring_of_warp;
    at.barriers = at.sums + ((shape.n_segments * kTileRows * 4) << (shape.places_log2 + tokens_log2));
    at.n_bytes = at.barriers + 8 * shape.n_warps * shape.n_stages + (16 << shape.places_log2);
    return at;
  }
};

// Launched on devices with bulk copies alone (DeviceProfile::stream_tokens), as plan_stream() says.
cudaError_t launch_stream(const MmaParams& params, const Launch& how);

}  // namespace spate::cuda
