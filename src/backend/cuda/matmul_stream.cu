// The kernel of matmul_stream.h.
#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_stream.h"
#include "backend/cuda/stream_cta.cuh"

namespace spate::cuda {

namespace {

#if SPATE_HAS_BULK_COPY

// Halves of a float16 tile.
struct HalfTileChunks {
  static constexpr int kStageBytes = kChunkBytes, kPerTile = kChunksPerTile;
  __device__ static constexpr int bytes(const MatmulPart&) { return kChunkBytes; }
};

// Leaves a lane's sums of a segment as [token][row].
__device__ __forceinline__ void leave_sums(const Sums<1, 1>& sums, int tokens_log2, float* to) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const float* from = sums.of[0][0];
  to += g;
  if (2 * t < 1 << tokens_log2) {
    to[2 * t * kTileRows] = from[0];
    to[2 * t * kTileRows + 8] = from[2];
  }
  if (2 * t + 1 < 1 << tokens_log2) {
    to[(2 * t + 1) * kTileRows] = from[1];
    to[(2 * t + 1) * kTileRows + 8] = from[3];
  }
}

// A multiplying warp's work; x: the CTA's activations.
__device__ __forceinline__ void multiply_all(const MmaParams& p, const CtaSlots& slots, const PanelSums& panels,
                                             const ActivationAddress& x, int tokens_log2, int warp,
                                             ChunkRing<HalfTileChunks>& ring) {
  using Tile = TileFormat<QuantType::kF16>;
  const int n_chunks = p.n_k_tiles * kChunksPerTile;
  for (SegmentWalk walk = SegmentWalk::first(warp, p.stream); walk.i < slots.n; walk.advance(p.stream)) {
    Sums<1, 1> sums = {};
    int chunk = walk.first_chunk(p.stream);
    for (const int end = chunk + walk.chunks(p.stream, n_chunks); chunk < end; ++chunk) {
      const uint32_t offset = ((chunk / kChunksPerTile * kTokenTileBytes) << tokens_log2) +
                              chunk % kChunksPerTile * (kTokenTileBytes / kChunksPerTile);
      // As of a whole tile; what lies behind its first half is never used, and so never read.
      const Tile::Regs regs[1] = {Tile::load(SharedCursor::at(ring.wait(), threadIdx.x % 32))};
      multiply_half<Tile, 0>(regs, x.even + offset, x.odd + offset, sums);
      ring.refill();
    }
    panels.add(walk.i, walk.segment, [&](float* to) { leave_sums(sums, tokens_log2, to); });
  }
}

#endif  // SPATE_HAS_BULK_COPY

__global__ void __launch_bounds__(32 * (kMaxStreamWarps + kFinishers), 1)
    matmul_stream_kernel(const __grid_constant__ MmaParams p) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  const int tokens_log2 = shared_tokens_log2(1, p.n_tokens);
  const StreamLayout at = StreamLayout::of(p.stream, float16_stream(p.n_k_tiles, tokens_log2), tokens_log2);
  const CtaSlots slots(p);
  const PanelSums panels(p, at, shared, tokens_log2);
  const uint32_t base = shared_address(shared);
  run_streaming<HalfTileChunks>(
      p, slots, panels, at, shared,
      [&](int) {
        const ActivationCopy copy{.x = p.x,
                                  .x_stride = p.x_stride,
                                  .tokens_log2 = tokens_log2,
                                  .n_tokens = p.n_tokens,
                                  .n_warps = p.stream.n_warps};
        copy.tiles(0, p.n_k_tiles, base);
        commit_copies();
        wait_for_copies<0>();
      },
      [&](int warp, ChunkRing<HalfTileChunks>& ring) {
        multiply_all(p, slots, panels, ActivationAddress(base, 0, tokens_log2), tokens_log2, warp, ring);
      });
#endif
}

}  // namespace

cudaError_t launch_stream(const MmaParams& params, const Launch& how) {
  return launch(how, matmul_stream_kernel, params);
}

}  // namespace spate::cuda
