// The kernels of matmul_stream_int8.h.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cuda/int8_quantise.cuh"
#include "backend/cuda/matmul_stream_int8.h"
#include "backend/cuda/stream_cta.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_BULK_COPY

// One token's activations as integers, in the order of one type: [K tile][sub-block][32], and SubblockFactors.
template <class PackedTile>
struct OneTokenRows {
  using Tile = GemvTile<PackedTile>;
  static constexpr ByteOrder kOrder = Tile::kOrder;
  static constexpr int kFactorsBytes = kTileSubblocks * static_cast<int>(sizeof(SubblockFactors));
  using Sums = float[2];  // a lane's, of rows g and g + 8
  static constexpr int kMaxTokens = 1;

  std::byte *words, *factors;

  __device__ OneTokenRows(std::byte* shared, const MmaParams& p)
      : words(shared), factors(shared + p.n_k_tiles * kTileCols) {}

  __device__ uint32_t* word_at(int, int tile, int subblock, int v) const {
    return reinterpret_cast<uint32_t*>(words + tile * kTileCols + subblock * kSubblockCols) + v;
  }
  __device__ void store_factors(int, int tile, int subblock, float scale, int sum0, int sum1) const {
    reinterpret_cast<SubblockFactors*>(factors)[tile * kTileSubblocks + subblock] =
        Tile::subblock_factors(scale, sum0, sum1);
  }
  template <class Ring>
  __device__ void prepare(const MmaParams& p, int warp, int n_warps, Ring& ring) const {
    ActivationQuantiser<OneTokenRows>(p, *this).template run<4>(warp, n_warps, [&] { ring.fill_rest(); });
  }

  // Where registers hold a whole tile, its stage is given back first, so that all stages are under
  // way while it is multiplied.
  template <class Ring>
  __device__ __forceinline__ void multiply(Ring& ring, int first_tile, int n_tiles, Sums& sums) const {
    constexpr bool kHoldsTile = Tile::kBytes <= 4096;
    const int t = threadIdx.x % 4;
    const std::byte* own_words = words + first_tile * kTileCols + t * kSubblockCols;
    const std::byte* own_factors = factors + first_tile * kFactorsBytes + t * static_cast<int>(sizeof(SubblockFactors));
    const auto load = [&]<int h>(LaneActivations(&x)[1]) {
      const auto* from = reinterpret_cast<const Words4*>(own_words + 128 * h);
      x[0].word[0] = from[0];
      x[0].word[1] = from[1];
      x[0].factors = *reinterpret_cast<const SubblockFactors*>(own_factors + 64 * h);
    };
    float row[2][1] = {{sums[0]}, {sums[1]}};
    for (; n_tiles > 0; --n_tiles) {
      typename Tile::Regs regs;
      const SharedCursor weights = SharedCursor::at(ring.wait(), threadIdx.x % 32);
      Tile::template load_half<1>(weights, regs);  // with it, what both halves need
      if constexpr (kHoldsTile) {
        Tile::template load_half<0>(weights, regs);
        ring.refill();
      }
      LaneActivations columns[1];
      load.template operator()<1>(columns);
      Tile::template add_cell<1, 0>(regs, columns, row[0]);
      Tile::template add_cell<1, 1>(regs, columns, row[1]);
      if constexpr (!kHoldsTile) Tile::template load_half<0>(weights, regs);
      load.template operator()<0>(columns);
      Tile::template add_cell<0, 0>(regs, columns, row[0]);
      Tile::template add_cell<0, 1>(regs, columns, row[1]);
      if constexpr (!kHoldsTile) ring.refill();
      own_words += kTileCols;
      own_factors += kFactorsBytes;
    }
    sums[0] = row[0][0];
    sums[1] = row[1][0];
  }

  // Leaves the sums of a quad as [row]: its even lanes add up row g, the odd ones row g + 8.
  __device__ static void leave(const Sums& sums, float* to) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const bool odd = t % 2 != 0;
    float sum = odd ? sums[1] : sums[0];
    sum += __shfl_xor_sync(0xffffffff, odd ? sums[0] : sums[1], 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    if (t < 2) to[g + 8 * t] = sum;
  }
};

#endif  // SPATE_HAS_BULK_COPY

template <class Tile, class SecondTile>
inline constexpr int kStreamInt8Threads = 32 * (max_stream_int8_warps(Tile::kBytes, !std::is_same_v<Tile, SecondTile>) +
                                                kFinishers);

template <class Tile, class SecondTile>
__global__ void __launch_bounds__((kStreamInt8Threads<Tile, SecondTile>), 2)
    matmul_stream_int8_kernel(const __grid_constant__ MmaParams p) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  using Chunks = TileChunks<Tile, SecondTile>;
  constexpr bool kTwoTypes = !std::is_same_v<Tile, SecondTile>;
  const StreamBytes bytes = int8_stream(p.n_k_tiles, kTwoTypes, Chunks::kStageBytes);
  const StreamLayout at = StreamLayout::of(p.stream, bytes, 0);
  const OneTokenRows<Tile> first(shared, p);
  const OneTokenRows<SecondTile> second(shared + (kTwoTypes ? bytes.activations / 2 : 0), p);
  run_streaming<Chunks>(p, at, 0, shared, first, second, [&](int warp, auto& ring) {
    if constexpr (!kTwoTypes) {
      first.prepare(p, warp, p.stream.n_warps, ring);
    } else if (warp % 2 == 0) {  // there is an even number of them
      first.prepare(p, warp / 2, p.stream.n_warps / 2, ring);
    } else {
      second.prepare(p, warp / 2, p.stream.n_warps / 2, ring);
    }
  });
#endif
}

template <QuantType type, QuantType second = type>
cudaError_t launch_stream_int8(const MmaParams& params, const Launch& how) {
  return launch(how, matmul_stream_int8_kernel<typename TileFormat<type>::Packed, typename TileFormat<second>::Packed>,
                params);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
