// The product of 1 to 8 tokens with quantised weights: the tensor-core product of matmul_mma.cuh with all activations
// of a CTA in shared memory at once, so that its warps run through their weights without a barrier. For parts of two
// formats (queries and keys of Q4_K beside values of Q6_K, say) a warp picks its own.
#pragma once

#include "backend/cuda/matmul_mma.cuh"

namespace spate::cuda {

inline constexpr int kSumsBytes = 32;  // of a token's sums of sixteen columns of a tile

#ifdef __CUDACC__

// Sums of sixteen columns of the activations in shared memory: [tile][token][16] float16, in the order of the lanes
// that own them, half by half (sum 8 h + 2 t + i is of columns 128 h + 32 t + 16 i .. + 15). All threads; the caller
// synchronises before and after.
__device__ __forceinline__ void sum_sixteens(const std::byte* activations, int n_rows, std::byte* sums) {
  // A thread adds up the eight chunks that hold sixteens i of the four lanes in half h; in whatever order they lie.
  for (int item = threadIdx.x; item < n_rows * 4; item += kMmaThreads) {
    const int row = item / 4, h = item / 2 % 2, i = item % 2;
    const std::byte* chunks = activations + row * kTokenTileBytes + (h * 16 + i * 8) * 16;
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int chunk = 0; chunk < 8; ++chunk) {
      const uint4 pairs = *reinterpret_cast<const uint4*>(chunks + ((chunk + item) & 7) * 16);  // spread over the banks
      const uint32_t word[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&word[t]));
        sum[t] += both.x + both.y;
      }
    }
#pragma unroll
    for (int t = 0; t < 4; ++t)
      *reinterpret_cast<__half*>(sums + row * kSumsBytes + (8 * h + 2 * t + i) * 2) = __float2half_rn(sum[t]);
  }
}

// multiply_tiles() of one panel and up to 8 tokens in the two parts of PackedTile; sums_at: of the lane's token and the
// tile.
template <class Tile>
__device__ __forceinline__ void multiply_parted(const typename Tile::Regs& regs, uint32_t x_even, uint32_t x_odd,
                                                const std::byte* sums_at, float sum[4]) {
  Half2Bits addends[2][2];
  const auto half_tile = [&]<int h>() {
    const auto f0 = Tile::template parted_factors<h, 0>(regs), f1 = Tile::template parted_factors<h, 1>(regs);
    addends[h][0] = f0.addends;
    addends[h][1] = f1.addends;
    const auto columns32 = [&]<int c>() {
      Half2Bits w0[4], w1[4];
      Tile::template parted_weights<h, 0, c>(regs, f0, w0);
      Tile::template parted_weights<h, 1, c>(regs, f1, w1);
      uint32_t b[4];
      load_matrices(b, (c % 2 == 0 ? x_even : x_odd) + (h * 16 + c / 2 * 8) * 16);
      mma(sum, w0[0], w1[0], w0[1], w1[1], b[0], b[1]);
      mma(sum, w0[2], w1[2], w0[3], w1[3], b[2], b[3]);
    };
    columns32.template operator()<0>();
    columns32.template operator()<1>();
    columns32.template operator()<2>();
    columns32.template operator()<3>();
  };
  half_tile.template operator()<0>();
  half_tile.template operator()<1>();
  const int t = threadIdx.x % 4;
  const uint32_t b0 = *reinterpret_cast<const uint32_t*>(sums_at + 4 * t);
  const uint32_t b1 = *reinterpret_cast<const uint32_t*>(sums_at + 16 + 4 * t);
  mma(sum, addends[0][0], addends[0][1], addends[1][0], addends[1][1], b0, b1);
}

// A warp's part of the kernel, for the format of its slot.
// kSums: some warp of the CTA takes its weights in parts.
template <class Tile, bool kTwoAhead, bool kSums>
__device__ __forceinline__ void multiply_resident(const MmaParams& p, const CtaPlace& place, std::byte* shared,
                                                  Sums<1, 1>& sums) {
  const int slot = place.first_slot + place.warp_m;
  int left = slot < p.n_slots ? place.warp_tiles() : 0;  // tiles yet to multiply
  WeightStream<Tile, 1> weights;
  weights.step_bytes = int64_t{place.warps_k} * Tile::kBytes;
  weights.cursor[0] = LaneCursor::at(
      slot_tiles(p, slot, Tile::kBytes) + int64_t{place.first_tile + place.warp_k} * Tile::kBytes, threadIdx.x % 32);
  typename Tile::Regs even[1], odd[1];
  if (kTwoAhead) {
    if (left > 0) weights.load(even);
    if (left > 1) weights.load(odd);
  }

  const int tokens_log2 = shared_tokens_log2(1, p.n_tokens);
  const uint32_t base = shared_address(shared);
  ActivationAddress address(base, place.warp_k, tokens_log2);
  wait_for_predecessor();
  const ActivationCopy copy{.x = p.x + place.first_tile * kTileCols,
                            .x_stride = p.x_stride,
                            .tokens_log2 = tokens_log2,
                            .n_tokens = p.n_tokens};
  copy.tiles(0, place.n_tiles, base);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  std::byte* sixteens = shared + ((place.n_tiles * kTokenTileBytes) << tokens_log2);
  if constexpr (kSums) {
    sum_sixteens(shared, place.n_tiles << tokens_log2, sixteens);
    __syncthreads();
  }
  const int token = threadIdx.x % 32 / 4 & ((1 << tokens_log2) - 1);
  const std::byte* sums_at = sixteens + ((place.warp_k << tokens_log2) + token) * kSumsBytes;

  const uint32_t step = (place.warps_k * kTokenTileBytes) << tokens_log2;
  const int sums_step = (place.warps_k * kSumsBytes) << tokens_log2;
  const auto multiply = [&](const typename Tile::Regs(&regs)[1]) {
    if constexpr (Tile::kParted) {
      multiply_parted<Tile>(regs[0], address.even, address.odd, sums_at, sums.of[0][0]);
      sums_at += sums_step;
    } else {
      multiply_tiles<Tile, 1, 1>(regs, address.even, address.odd, sums);
    }
    address.even += step;
    address.odd += step;
  };
  if constexpr (kTwoAhead) {
    for (; left > 0; left -= 2) {
      multiply(even);
      if (left > 2) weights.load(even);
      if (left > 1) multiply(odd);
      if (left > 3) weights.load(odd);
    }
  } else {
    for (; left > 0; --left) {
      weights.load(even);
      multiply(even);
    }
  }
}

template <class Tile, class SecondTile, bool kTwoAhead>
__global__ void __launch_bounds__(kMmaThreads) matmul_few_kernel(const __grid_constant__ MmaParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  const CtaPlace place(p, 8, 1);
  Sums<1, 1> sums = {};
  constexpr bool kSums = Tile::kParted || SecondTile::kParted;
  if constexpr (std::is_same_v<Tile, SecondTile>) {
    multiply_resident<Tile, kTwoAhead, kSums>(p, place, shared, sums);
  } else {
    // All of a warp takes the same way, and each way has the same barriers.
    const int slot = min(place.first_slot + place.warp_m, p.n_slots - 1);
    if (p.parts[slot_place(p, slot).part].second) {
      multiply_resident<SecondTile, kTwoAhead, kSums>(p, place, shared, sums);
    } else {
      multiply_resident<Tile, kTwoAhead, kSums>(p, place, shared, sums);
    }
  }
  finish_tile<1, 1>(p, reinterpret_cast<float*>(shared), place.first_slot, 0, place.tile_index(), sums, place.warp_m,
                    place.warp_k);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
