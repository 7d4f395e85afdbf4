// The kernel of matmul_stream_int8.h.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cuda/matmul_stream_int8.h"
#include "backend/cuda/stream_cta.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

// Tiles, of a part's own type.
template <class Tile, class SecondTile>
struct TileChunks {
  static constexpr int kStageBytes = std::max(Tile::kBytes, SecondTile::kBytes), kPerTile = 1;
  static_assert(Tile::kBytes % 16 == 0 && SecondTile::kBytes % 16 == 0, "what bulk copies can bring");
  __device__ static int bytes(const MatmulPart& part) {
    if constexpr (std::is_same_v<Tile, SecondTile>) {
      return Tile::kBytes;
    } else {
      return part.second ? SecondTile::kBytes : Tile::kBytes;
    }
  }
};

#if SPATE_HAS_BULK_COPY

// The activations as integers, in the order of one type.
struct Int8Row {
  std::byte *words, *factors;

  __device__ static Int8Row at(std::byte* shared, int n_k_tiles) {
    return {shared, shared + n_k_tiles * kInt8WordsBytes};
  }
};

// A lane's sums of rows g and g + 8 over its columns of the segment's tiles. Where registers hold a whole tile, its
// stage is given back first, so that all stages are under way while it is multiplied.
template <class Tile, class Ring>
__device__ __forceinline__ void multiply_segment(Ring& ring, LaneActivationCursor<1> x, int n_tiles,
                                                 float (&sums)[2][1]) {
  constexpr bool kHoldsTile = Tile::kBytes <= 4096;
  for (; n_tiles > 0; --n_tiles) {
    typename Tile::Regs regs;
    const SharedCursor weights = SharedCursor::at(ring.wait(), threadIdx.x % 32);
    Tile::template load_half<1>(weights, regs);  // with it, what both halves need
    if constexpr (kHoldsTile) {
      Tile::template load_half<0>(weights, regs);
      ring.refill();
    }
    LaneActivations columns[1];
    x.template load<1>(columns);
    Tile::template add_cell<1, 0>(regs, columns, sums[0]);
    Tile::template add_cell<1, 1>(regs, columns, sums[1]);
    if constexpr (!kHoldsTile) Tile::template load_half<0>(weights, regs);
    x.template load<0>(columns);
    Tile::template add_cell<0, 0>(regs, columns, sums[0]);
    Tile::template add_cell<0, 1>(regs, columns, sums[1]);
    if constexpr (!kHoldsTile) ring.refill();
    x.advance(1);
  }
}

// Leaves the sums of a quad as [row]: its even lanes add up row g, the odd ones row g + 8.
__device__ __forceinline__ void leave_quad_sums(const float (&sums)[2][1], float* to) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const bool odd = t % 2 != 0;
  float sum = odd ? sums[1][0] : sums[0][0];
  sum += __shfl_xor_sync(0xffffffff, odd ? sums[0][0] : sums[1][0], 1);
  sum += __shfl_xor_sync(0xffffffff, sum, 2);
  if (t < 2) to[g + 8 * t] = sum;
}

// The CTA's activations, by its multiplying warps; of two types by one half of them each.
template <class Tile, class SecondTile>
__device__ __forceinline__ void quantise(const MmaParams& p, const Int8Row& first, const Int8Row& second, int warp) {
  const auto nothing = [] {};
  if constexpr (std::is_same_v<Tile, SecondTile>) {
    ActivationQuantiser<Tile, 1>(p, first.words, first.factors).run(warp, p.stream.n_warps, nothing);
  } else if (warp % 2 == 0) {
    ActivationQuantiser<Tile, 1>(p, first.words, first.factors).run(warp / 2, p.stream.n_warps / 2, nothing);
  } else {
    ActivationQuantiser<SecondTile, 1>(p, second.words, second.factors).run(warp / 2, p.stream.n_warps / 2, nothing);
  }
}

// A multiplying warp's work.
template <class Tile, class SecondTile, class Ring>
__device__ __forceinline__ void multiply_all(const MmaParams& p, const CtaSlots& slots, const PanelSums& panels,
                                             const Int8Row& first, const Int8Row& second, int warp, Ring& ring) {
  const int n_k_tiles = p.n_k_tiles;
  for (SegmentWalk walk = SegmentWalk::first(warp, p.stream); walk.i < slots.n; walk.advance(p.stream)) {
    const int first_tile = walk.first_chunk(p.stream), n_tiles = walk.chunks(p.stream, n_k_tiles);
    float sums[2][1] = {};
    bool is_second = false;
    if constexpr (!std::is_same_v<Tile, SecondTile>) {
      is_second = p.parts[slot_place(p, slots[walk.i]).part].second;
      if (is_second)
        multiply_segment<SecondTile>(ring, {second.words, second.factors, n_k_tiles, first_tile}, n_tiles, sums);
    }
    if (!is_second) multiply_segment<Tile>(ring, {first.words, first.factors, n_k_tiles, first_tile}, n_tiles, sums);
    panels.add(walk.i, walk.segment, [&](float* to) { leave_quad_sums(sums, to); });
  }
}

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
  constexpr int kTypes = std::is_same_v<Tile, SecondTile> ? 1 : 2;
  const int warp = threadIdx.x / 32;
  const StreamBytes bytes = int8_stream(p.n_k_tiles, kTypes, Chunks::kStageBytes);
  const StreamLayout at = StreamLayout::of(p.stream, bytes, 0);
  const CtaSlots slots(p);
  const PanelSums panels(p, at, shared, 0);
  if (warp >= p.stream.n_warps) {
    if (threadIdx.x == 32 * p.stream.n_warps) panels.init();
    wait_for_predecessor();
    prepare_token_factors<32>(p, 0, p.n_tokens, threadIdx.x - 32 * p.stream.n_warps, 32 * kFinishers);
    meet_all();
    panels.finish_all(slots, warp - p.stream.n_warps);
    return;
  }
  ChunkRing<Chunks> ring(p, slots, at, shared, warp);
  const Int8Row first = Int8Row::at(shared, p.n_k_tiles);
  const Int8Row second = Int8Row::at(shared + (kTypes - 1) * (bytes.activations / kTypes), p.n_k_tiles);
  wait_for_predecessor();
  quantise<Tile, SecondTile>(p, first, second, warp);
  meet_all();
  multiply_all<Tile, SecondTile>(p, slots, panels, first, second, warp, ring);
#endif
}

template <QuantType type, QuantType second = type>
cudaError_t launch_stream_int8(const MmaParams& params, const Launch& how) {
  using Tile = GemvTile<typename TileFormat<type>::Packed>;
  using SecondTile = GemvTile<typename TileFormat<second>::Packed>;
  return launch(how, matmul_stream_int8_kernel<Tile, SecondTile>, params);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
