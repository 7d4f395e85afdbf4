// The product of 1 to 8 tokens with quantised weights: the tensor-core product of matmul_mma.cuh with all activations
// of a CTA in shared memory at once, so that its warps run through their weights without a barrier. For parts of two
// formats (queries and keys of Q4_K beside values of Q6_K, say) a warp picks its own.
#pragma once

#include "backend/cuda/matmul_mma.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

// A warp's part of the kernel, for the format of its slot.
template <class Tile, bool kTwoAhead>
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
  prepare_token_factors<32>(p, 0, p.n_tokens, threadIdx.x, kMmaThreads);
  wait_for_copies<0>();
  __syncthreads();

  const uint32_t step = (place.warps_k * kTokenTileBytes) << tokens_log2;
  const auto multiply = [&](const typename Tile::Regs(&regs)[1]) {
    multiply_tiles<Tile, 1, 1>(regs, address.even, address.odd, sums);
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
  if constexpr (std::is_same_v<Tile, SecondTile>) {
    multiply_resident<Tile, kTwoAhead>(p, place, shared, sums);
  } else {
    // All of a warp takes the same way, and each way has the same barriers.
    const int slot = min(place.first_slot + place.warp_m, p.n_slots - 1);
    if (p.parts[slot_place(p, slot).part].second) {
      multiply_resident<SecondTile, kTwoAhead>(p, place, shared, sums);
    } else {
      multiply_resident<Tile, kTwoAhead>(p, place, shared, sums);
    }
  }
  finish_tile<1, 1>(p, reinterpret_cast<float*>(shared), place.first_slot, 0, place.tile_index(), sums, place.warp_m,
                    place.warp_k);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
