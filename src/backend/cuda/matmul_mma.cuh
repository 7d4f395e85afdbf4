// The product of 9 to some hundred tokens with quantised weights, on the tensor cores of devices without wgmma
// (capabilities 8.x, 10.0 and 12.0; others have matmul_wide.cuh): weights as A (16 rows of mma.m16n8k16), decoded to
// float16 in registers, tokens as N. Every weight is read and decoded once for 8 * kOctets tokens.
//
// A CTA has 8 warps: 2^warps_m_log2 of them take different panels of 16 rows, the others share out the K of these in
// tiles of 256. Weights go from global memory to registers, two tiles ahead; activations through a ring of stages in
// shared memory. K may besides be cut between CTAs (gridDim.z); the CTA that ends last adds up the parts in their
// order, so that no result depends on timing.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_epilogue.cuh"
#include "backend/cuda/tile_format.h"

namespace spate::cuda {

// Tokens a CTA's shared memory has room for: all of its octets', or, of the smallest, the next power of two.
SPATE_HD constexpr int shared_tokens_log2(int n_octets, int n_tokens) {
  if (n_octets == 1 && n_tokens < 8) return n_tokens <= 1 ? 0 : n_tokens <= 2 ? 1 : n_tokens <= 4 ? 2 : 3;
  return n_octets == 1 ? 3 : n_octets == 2 ? 4 : n_octets == 4 ? 5 : 6;
}

inline constexpr int kTokenTileBytes = kTileCols * 2;  // a token's columns of a tile

// Bytes of one stage of the ring.
SPATE_HD constexpr int stage_bytes(int n_octets, int n_tokens, int warps_m) {
  return (kMmaWarps / warps_m * kTokenTileBytes) << shared_tokens_log2(n_octets, n_tokens);
}

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void copy16_async(uint32_t to_shared, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to_shared), "l"(from));
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;");
}
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of float16: with rows of K, the B operands of two mma.m16n8k16.
__device__ __forceinline__ void load_matrices(uint32_t b[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(address));
}

// c[16 x 8] += a[16 x 16] b[16 x 8]
__device__ __forceinline__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                    uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Adds the product of half h of one tile of each panel with the activations at x_even / x_odd: a lane's ldmatrix
// addresses in the half's 128 columns for even and odd groups of 32 (the swizzle exchanges them).
template <class Tile, int h, int kOctets, int kPanels>
__device__ __forceinline__ void multiply_half(const typename Tile::Regs (&regs)[kPanels], uint32_t x_even,
                                              uint32_t x_odd, Sums<kOctets, kPanels>& sums) {
  typename Tile::Factors factors[kPanels][2];
#pragma unroll
  for (int p = 0; p < kPanels; ++p) {
    factors[p][0] = Tile::template factors<h, 0>(regs[p]);
    factors[p][1] = Tile::template factors<h, 1>(regs[p]);
  }
  const auto columns32 = [&]<int c>() {
    Half2Bits w[kPanels][2][4];
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
      Tile::template weights<h, 0, c>(regs[p], factors[p][0], w[p][0]);
      Tile::template weights<h, 1, c>(regs[p], factors[p][1], w[p][1]);
    }
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
      uint32_t b[4];
      load_matrices(b, (c % 2 == 0 ? x_even : x_odd) + c / 2 * 8 * 16 + o * 8 * kTokenTileBytes);
#pragma unroll
      for (int p = 0; p < kPanels; ++p) {
        float* sum = sums.of[p][o];
        mma(sum, w[p][0][0], w[p][1][0], w[p][0][1], w[p][1][1], b[0], b[1]);
        mma(sum, w[p][0][2], w[p][1][2], w[p][0][3], w[p][1][3], b[2], b[3]);
      }
    }
  };
  columns32.template operator()<0>();
  columns32.template operator()<1>();
  columns32.template operator()<2>();
  columns32.template operator()<3>();
}

// The same of whole tiles and their 256 columns.
template <class Tile, int kOctets, int kPanels>
__device__ __forceinline__ void multiply_tiles(const typename Tile::Regs (&regs)[kPanels], uint32_t x_even,
                                               uint32_t x_odd, Sums<kOctets, kPanels>& sums) {
  multiply_half<Tile, 0>(regs, x_even, x_odd, sums);
  multiply_half<Tile, 1>(regs, x_even + kTokenTileBytes / 2, x_odd + kTokenTileBytes / 2, sums);
}

// Where a slot's tiles are; null for a slot past the last.
__device__ __forceinline__ const std::byte* slot_tiles(const MmaParams& p, int slot, int tile_bytes) {
  if (slot >= p.n_slots) return nullptr;
  const SlotPlace place = slot_place(p, slot);
  return p.parts[place.part].tiles + int64_t{place.panel} * p.n_k_tiles * tile_bytes;
}

// A CTA's activations on their way to shared memory: [tile][token][256 columns], 16-byte chunks XORed with token & 7.
struct ActivationCopy {
  const __half* x;  // of the CTA's first token and first tile
  int x_stride, tokens_log2, n_tokens;
  int n_warps = kMmaWarps;  // that share the work

  // Tiles [first, first + n) to `to`. A warp copies a token's columns of a tile; room for tokens that do not exist gets
  // an existing one's.
  __device__ void tiles(int first, int n, uint32_t to) const {
    const int lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < n << tokens_log2; row += n_warps) {
      const int tile = row >> tokens_log2, token = row & ((1 << tokens_log2) - 1);
      copy16_async(to + row * kTokenTileBytes + (lane ^ (token & 7)) * 16,
                   x + int64_t{min(token, n_tokens - 1)} * x_stride + (first + tile) * kTileCols + lane * 8);
    }
  }
};

// A warp's tiles: its panels' at K tile warp_k, warp_k + warps_k, ... of the CTA's.
template <class Tile, int kPanels>
struct WeightStream {
  LaneCursor cursor[kPanels];
  int64_t step_bytes;

  __device__ void load(typename Tile::Regs (&regs)[kPanels]) {
#pragma unroll
    for (int i = 0; i < kPanels; ++i) {
      regs[i] = Tile::load(cursor[i]);
      cursor[i].advance(step_bytes);
    }
  }
};

// Where a CTA and its warps stand in a product. Grid: x, groups of tokens (fastest: they share weights in the
// second-level cache); y, groups of slots; z, parts of K.
struct CtaPlace {
  int warp_m, warp_k, warps_k, warps_k_log2;
  int first_token, first_slot, first_tile, n_tiles;

  __device__ CtaPlace(const MmaParams& p, int tokens, int n_panels)
      : CtaPlace(p, tokens, n_panels, threadIdx.x / 32, 3) {}
  // Of a CTA with 2^warps_log2 warps that multiply; warp: the thread's.
  __device__ CtaPlace(const MmaParams& p, int tokens, int n_panels, int warp, int warps_log2) {
    warp_m = warp & ((1 << p.warps_m_log2) - 1);
    warp_k = warp >> p.warps_m_log2;
    warps_k_log2 = warps_log2 - p.warps_m_log2;
    warps_k = 1 << warps_k_log2;
    first_token = static_cast<int>(blockIdx.x) * tokens;
    first_slot = static_cast<int>(blockIdx.y) * n_panels << p.warps_m_log2;
    first_tile = p.n_k_tiles * blockIdx.z / gridDim.z;
    n_tiles = p.n_k_tiles * (blockIdx.z + 1) / gridDim.z - first_tile;
  }
  // Tiles of K that a warp takes, of the CTA's.
  __device__ int warp_tiles() const { return (n_tiles - warp_k + warps_k - 1) >> warps_k_log2; }
  __device__ int tile_index() const { return static_cast<int>(blockIdx.y * gridDim.x + blockIdx.x); }
};

// A lane's ldmatrix addresses for the even and the odd groups of 32 columns of its warp's tile: lane l addresses row l
// % 8 of matrix l / 8, a token's 8 columns; fewer tokens are read more than once.
struct ActivationAddress {
  uint32_t even, odd;

  __device__ ActivationAddress(uint32_t base, int warp_k, int tokens_log2) {
    const int lane = threadIdx.x % 32;
    const int token = lane & 7 & ((1 << tokens_log2) - 1), swizzled = (lane / 8) ^ (token & 3);
    const uint32_t at = base + ((warp_k << tokens_log2) + token) * kTokenTileBytes + swizzled * 16;
    even = at + (token & 4) * 16;
    odd = at + (4 - (token & 4)) * 16;
    asm("" : "+r"(even), "+r"(odd));  // else computed anew for every tile
  }
};

template <class Tile, int kOctets, int kPanels, bool kTwoAhead, int kStages>
__global__ void __launch_bounds__(kMmaThreads) matmul_mma_kernel(const __grid_constant__ MmaParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  const int lane = threadIdx.x % 32;
  const CtaPlace place(p, 8 * kOctets, kPanels);

  WeightStream<Tile, kPanels> weights;
  weights.step_bytes = int64_t{place.warps_k} * Tile::kBytes;
  const int warp_slot = place.first_slot + place.warp_m * kPanels;
#pragma unroll
  for (int i = 0; i < kPanels; ++i) {
    // A slot past the last computes what the warp's first does, and is never written; a warp with none at all idles.
    const std::byte* tiles = slot_tiles(p, warp_slot + i < p.n_slots ? warp_slot + i : warp_slot, Tile::kBytes);
    weights.cursor[i] = LaneCursor::at(tiles + int64_t{place.first_tile + place.warp_k} * Tile::kBytes, lane);
  }
  const int n_mine = warp_slot < p.n_slots ? place.warp_tiles() : 0;
  typename Tile::Regs even[kPanels], odd[kPanels];
  if (kTwoAhead) {
    if (n_mine > 0) weights.load(even);
    if (n_mine > 1) weights.load(odd);
  }

  const int tokens_log2 = shared_tokens_log2(kOctets, p.n_tokens);
  const uint32_t base = shared_address(shared);
  const ActivationCopy copy{.x = p.x + int64_t{place.first_token} * p.x_stride + place.first_tile * kTileCols,
                            .x_stride = p.x_stride,
                            .tokens_log2 = tokens_log2,
                            .n_tokens = p.n_tokens - place.first_token};
  const ActivationAddress address(base, place.warp_k, tokens_log2);
  const int n_iterations = (place.n_tiles + place.warps_k - 1) >> place.warps_k_log2;
  const int bytes = (place.warps_k * kTokenTileBytes) << tokens_log2;
  const auto issue = [&](int iteration, uint32_t to) {
    const int first = iteration * place.warps_k;
    if (iteration < n_iterations) copy.tiles(first, min(place.warps_k, place.n_tiles - first), to);
    commit_copies();
  };

  wait_for_predecessor();
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) issue(i, base + i * bytes);
  prepare_token_factors<kOctets <= 2 ? 32 : 8>(p, place.first_token, min(p.n_tokens - place.first_token, 8 * kOctets),
                                               threadIdx.x, kMmaThreads);
  Sums<kOctets, kPanels> sums = {};
  int stage = 0;  // bytes from the ring's start
  const auto iterate = [&](int i, typename Tile::Regs(&regs)[kPanels]) {
    if (!kTwoAhead && i < n_mine) weights.load(regs);
    wait_for_copies<kStages - 2>();
    __syncthreads();
    issue(i + kStages - 1, base + (stage == 0 ? (kStages - 1) * bytes : stage - bytes));
    if (i < n_mine) multiply_tiles<Tile, kOctets, kPanels>(regs, address.even + stage, address.odd + stage, sums);
    if (kTwoAhead && i + 2 < n_mine) weights.load(regs);
    stage = stage == (kStages - 1) * bytes ? 0 : stage + bytes;
  };
  for (int i = 0; i < n_iterations; i += 2) {
    iterate(i, even);
    if (i + 1 < n_iterations) iterate(i + 1, kTwoAhead ? odd : even);
  }
  wait_for_copies<0>();
  finish_tile<kOctets, kPanels>(p, reinterpret_cast<float*>(shared), place.first_slot, place.first_token,
                                place.tile_index(), sums, place.warp_m, place.warp_k);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
