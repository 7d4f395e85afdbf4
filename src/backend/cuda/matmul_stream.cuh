// The kernel of matmul_stream.h.
#pragma once

#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_stream.h"
#include "backend/cuda/stream_cta.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_BULK_COPY

// Halves of a float16 tile.
template <bool splits>
struct HalfTileChunks {
  static constexpr int kStageBytes = HalfTile::kBytes / kHalfTileChunks, kPerTile = kHalfTileChunks;
  static constexpr bool kSplits = splits;
  __device__ static constexpr int bytes(const MatmulPart&) { return kStageBytes; }
};

// The activations of a CTA as ActivationCopy lays them out, and products of a type's weights with them.
template <class Tile>
struct Float16Rows {
  using Sums = spate::cuda::Sums<1, 1>;
  static constexpr int kMaxTokens = 8;

  ActivationAddress x;
  int tokens_log2;

  template <class Ring>
  __device__ __forceinline__ void multiply(Ring& ring, int first_chunk, int n_chunks, Sums& sums) const {
    if constexpr (std::is_same_v<Tile, HalfTile>) {
      for (int chunk = first_chunk; chunk < first_chunk + n_chunks; ++chunk) {
        const uint32_t offset = ((chunk / kHalfTileChunks * kTokenTileBytes) << tokens_log2) +
                                chunk % kHalfTileChunks * (kTokenTileBytes / kHalfTileChunks);
        // As of a whole tile; what lies behind its first half is never used, and so never read.
        const typename Tile::Regs regs[1] = {Tile::load(SharedCursor::at(ring.wait(), threadIdx.x % 32))};
        multiply_half<Tile, 0>(regs, x.even + offset, x.odd + offset, sums);
        ring.refill();
      }
    } else {
      const int step = kTokenTileBytes << tokens_log2;
      uint32_t offset = first_chunk * step;
      for (; n_chunks > 0; --n_chunks, offset += step) {
        const typename Tile::Regs regs[1] = {Tile::load(SharedCursor::at(ring.wait(), threadIdx.x % 32))};
        ring.refill();  // registers hold the tile
        multiply_tiles<Tile, 1, 1>(regs, x.even + offset, x.odd + offset, sums);
      }
    }
  }

  template <class To>
  __device__ __forceinline__ void leave(const Sums& sums, To to) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const float* from = sums.of[0][0];
    if (2 * t < 1 << tokens_log2) {
      to[2 * t * kTileRows + g] = from[0];
      to[2 * t * kTileRows + g + 8] = from[2];
    }
    if (2 * t + 1 < 1 << tokens_log2) {
      to[(2 * t + 1) * kTileRows + g] = from[1];
      to[(2 * t + 1) * kTileRows + g + 8] = from[3];
    }
  }
};

#endif  // SPATE_HAS_BULK_COPY

// kSplits: CTAs of a cluster share K.
template <class Tile, class SecondTile, bool kSplits>
__global__ void __launch_bounds__(32 * (max_stream_warps(Tile::kBytes, !std::is_same_v<Tile, SecondTile>) + kFinishers),
                                  1) matmul_stream_kernel(const __grid_constant__ MmaParams p) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  using Chunks = std::conditional_t<std::is_same_v<Tile, HalfTile>, HalfTileChunks<kSplits>,
                                    TileChunks<Tile, SecondTile, kSplits>>;
  const int tokens_log2 = shared_tokens_log2(1, p.n_tokens);
  const ClusterPlace cluster = ClusterPlace::of<Chunks>(p);
  const int most_tiles = KShare::most(p.n_k_tiles, cluster.log2);
  const StreamLayout at =
      StreamLayout::of(p.stream, float16_stream(most_tiles, tokens_log2, Chunks::kStageBytes), tokens_log2);
  const uint32_t base = shared_address(shared);
  const ActivationAddress x(base, 0, tokens_log2);
  run_streaming<Chunks>(p, at, tokens_log2, shared, Float16Rows<Tile>{x, tokens_log2},
                        Float16Rows<SecondTile>{x, tokens_log2}, [&](int, auto& ring) {
                          const ActivationCopy copy{.x = p.x,
                                                    .x_stride = p.x_stride,
                                                    .tokens_log2 = tokens_log2,
                                                    .n_tokens = p.n_tokens,
                                                    .n_warps = p.stream.n_warps};
                          const KShare k = cluster.k_share(p);
                          copy.tiles(k.first, k.n, base);
                          commit_copies();
                          ring.fill_rest();
                          wait_for_copies<0>();
                        });
#endif
}

template <QuantType type, QuantType second = type>
cudaError_t launch_stream(const MmaParams& params, const Launch& how) {
  using Tile = typename TileFormat<type>::Packed;
  using SecondTile = typename TileFormat<second>::Packed;
  if constexpr (type == second)
    if (params.stream.cluster_log2 > 0) return launch(how, matmul_stream_kernel<Tile, SecondTile, true>, params);
  return launch(how, matmul_stream_kernel<Tile, SecondTile, false>, params);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
