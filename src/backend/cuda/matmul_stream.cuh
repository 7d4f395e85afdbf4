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

// The activations' way to shared memory, where they lie as ActivationCopy lays them out, and who waits for what of
// them: everybody for all, or a warp for each tile that it multiplies.
template <bool kByTile>
class Float16Arrival {
 public:
  // All threads, before the predecessor's end.
  __device__ Float16Arrival(const MmaParams& p, const ClusterPlace& cluster, int tokens_log2, uint32_t to)
      : p_(p), k_(cluster.k_share(p)), tokens_log2_(tokens_log2), to_(to) {
    if (!kByTile) return;
    barriers_ = to + float16_bytes(KShare::most(p.n_k_tiles, cluster.log2), tokens_log2);
    for (int i = threadIdx.x; i < k_.n; i += blockDim.x) {
      barrier_init(barriers_ + 8 * i, 32 << tokens_log2);
      publish_barriers();
    }
    __syncthreads();
  }

  template <int kChunksPerTile>
  __device__ void copy(int warp) const {
    const ActivationCopy copy{.x = p_.x,
                              .x_stride = p_.x_stride,
                              .tokens_log2 = tokens_log2_,
                              .n_tokens = p_.n_tokens,
                              .n_warps = p_.stream.n_warps};
    if (!kByTile) {
      copy.tiles(k_.first, k_.n, to_);
      commit_copies();
      wait_for_copies<0>();
      return;
    }
    // The first tile of every segment, then the second of each: every warp begins with what comes first. Of halves of
    // tiles, in order.
    const int n_segments = kChunksPerTile > 1 ? 1 : p_.stream.n_segments;
    const int n_rounds = kChunksPerTile > 1 ? k_.n : p_.stream.segment_chunks;
    const int inverse = 0xffff / n_segments + 1;  // rounded up, which is exact for numbers of tiles
    for (int row = warp; row < n_rounds * n_segments << tokens_log2_; row += p_.stream.n_warps) {
      const int at = row >> tokens_log2_, round = at * inverse >> 16;
      const int tile = (at - round * n_segments) * n_rounds + round, token = row & ((1 << tokens_log2_) - 1);
      if (tile >= k_.n) continue;
      copy.columns(k_.first + tile, token, to_ + ((tile << tokens_log2_) + token) * kTokenTileBytes);
      barrier_arrive_with_copies(barriers_ + 8 * tile);
    }
  }

  // Of a tile of the CTA's.
  __device__ __forceinline__ void wait(int tile) const {
    if (kByTile) barrier_wait(barriers_ + 8 * tile, 0);
  }

 private:
  const MmaParams& p_;
  KShare k_;
  int tokens_log2_;
  uint32_t to_, barriers_ = 0;
};

// The activations of a CTA and products of a type's weights with them.
template <class Tile, bool kByTile>
struct Float16Rows {
  using Sums = spate::cuda::Sums<1, 1>;

  const Float16Arrival<kByTile>& arrival;
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
        arrival.wait(chunk / kHalfTileChunks);
        multiply_half<Tile, 0>(regs, x.even + offset, x.odd + offset, sums);
        ring.refill();
      }
    } else {
      const int step = kTokenTileBytes << tokens_log2;
      uint32_t offset = first_chunk * step;
      for (; n_chunks > 0; --n_chunks, ++first_chunk, offset += step) {
        const typename Tile::Regs regs[1] = {Tile::load(SharedCursor::at(ring.wait(), threadIdx.x % 32))};
        ring.refill();  // registers hold the tile
        arrival.wait(first_chunk);
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

// kSplits: CTAs of a cluster share K; kByTile: activations are waited for tile by tile.
template <class Tile, class SecondTile, bool kSplits, bool kByTile>
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
  const Float16Arrival<kByTile> arrival(p, cluster, tokens_log2, base);
  const ActivationAddress x(base, 0, tokens_log2);
  run_streaming<Chunks>(p, at, tokens_log2, shared, Float16Rows<Tile, kByTile>{arrival, x, tokens_log2},
                        Float16Rows<SecondTile, kByTile>{arrival, x, tokens_log2},
                        [&](int warp) { arrival.template copy<Chunks::kPerTile>(warp); });
#endif
}

template <QuantType type, QuantType second, bool kByTile>
cudaError_t launch_stream_by(const MmaParams& params, const Launch& how) {
  using Tile = typename TileFormat<type>::Packed;
  using SecondTile = typename TileFormat<second>::Packed;
  if constexpr (type == second) {
    if (params.stream.cluster_log2 > 0)
      return launch(how, matmul_stream_kernel<Tile, SecondTile, true, kByTile>, params);
  }
  return launch(how, matmul_stream_kernel<Tile, SecondTile, false, kByTile>, params);
}

template <QuantType type, QuantType second = type>
cudaError_t launch_stream(const MmaParams& params, const Launch& how) {
  return (params.stream.x_by_tile ? launch_stream_by<type, second, true>
                                  : launch_stream_by<type, second, false>)(params, how);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
