// The kernel of matmul_gemv.h.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cuda/int8_quantise.cuh"
#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_epilogue.cuh"
#include "backend/cuda/matmul_gemv.h"

namespace spate::cuda {

#ifdef __CUDACC__

// Where a warp stands in a product.
struct GemvPlace {
  int n_warps, warp_m, warp_k, warps_k_log2, warps_k;
  int first_slot, slot;

  __device__ explicit GemvPlace(const MmaParams& p) {
    const int warp = threadIdx.x / 32;
    n_warps = blockDim.x / 32;
    warp_m = warp & ((1 << p.warps_m_log2) - 1);
    warp_k = warp >> p.warps_m_log2;
    warps_k_log2 = 31 - __clz(n_warps) - p.warps_m_log2;
    warps_k = 1 << warps_k_log2;
    first_slot = static_cast<int>(blockIdx.y) << p.warps_m_log2;
    slot = first_slot + warp_m;
  }
  // K tiles of the warp: warp_k, warp_k + warps_k, ...
  __device__ int n_tiles(const MmaParams& p) const {
    return slot < p.n_slots ? (p.n_k_tiles - warp_k + warps_k - 1) >> warps_k_log2 : 0;
  }
};

// A lane's sums of rows g and g + 8, by token: over the columns that it owns of the warp's tiles.
template <class Tile, int kTokens>
__device__ __forceinline__ void multiply_rows(const MmaParams& p, const GemvPlace& place, const GemvLayout& at,
                                              std::byte* shared, float (&sums)[2][kTokens]) {
  int left = place.n_tiles(p);  // tiles yet to multiply
  const SlotPlace panel = slot_place(p, min(place.slot, p.n_slots - 1));
  LaneCursor weights = LaneCursor::at(
      p.parts[panel.part].tiles + (int64_t{panel.panel} * p.n_k_tiles + place.warp_k) * Tile::kBytes, threadIdx.x % 32);
  typename Tile::Regs regs;
  if (left > 0) {
    Tile::template load_half<0>(weights, regs);
    Tile::template load_half<1>(weights, regs);
  }
  wait_for_predecessor();
  const ActivationQuantiser<Tile, kTokens> quantiser(p, shared, shared + at.factors);
  quantiser.run(threadIdx.x / 32, place.n_warps, [&] {
    // By the last warp, which has the least to quantise.
    const int n_threads = 32 * place.n_warps;
    prepare_token_factors<32>(p, 0, p.n_tokens, (threadIdx.x + 32) & (n_threads - 1), n_threads);
  });
  __syncthreads();
  LaneActivationCursor<kTokens> x(shared, shared + at.factors, p.n_k_tiles, place.warp_k);
  for (; left > 0; --left) {
    weights.advance(int64_t{place.warps_k} * Tile::kBytes);
    LaneActivations columns[kTokens];
    x.template load<0>(columns);
    Tile::template add_cell<0, 0>(regs, columns, sums[0]);
    Tile::template add_cell<0, 1>(regs, columns, sums[1]);
    if (left > 1) Tile::template load_half<0>(weights, regs);
    x.template load<1>(columns);
    Tile::template add_cell<1, 0>(regs, columns, sums[0]);
    Tile::template add_cell<1, 1>(regs, columns, sums[1]);
    if (left > 1) Tile::template load_half<1>(weights, regs);
    x.advance(place.warps_k);
  }
}

// Adds up sums over the lanes of a quad and the warps that share K, and writes them.
template <int kTokens>
class GemvEpilogue {
 public:
  __device__ GemvEpilogue(const MmaParams& p, const GemvPlace& place, float* exchange)
      : p_(p), place_(place), exchange_(exchange), rows_log2_(p.warps_m_log2 + 4) {}

  __device__ void run(float (&sums)[2][kTokens]) const {
    const int lane = threadIdx.x % 32, g = lane / 4;
#pragma unroll
    for (int rh = 0; rh < 2; ++rh) {
#pragma unroll
      for (int token = 0; token < kTokens; ++token) {
        float sum = sums[rh][token];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        if (lane % 4 == 0) *at(place_.warp_k, token, place_.warp_m * kTileRows + g + 8 * rh) = sum;
      }
    }
    __syncthreads();
    if (p_.epilogue == Epilogue::kSwiGlu) {
      write_swiglu();
    } else {
      write();
    }
  }

 private:
  __device__ float* at(int warp_k, int token, int row) const {
    return exchange_ + ((warp_k * kTokens + token) << rows_log2_) + row;
  }
  __device__ float sum(int token, int row) const {
    float total = 0;
    for (int k = 0; k < place_.warps_k; ++k) total += *at(k, token, row);
    return total;
  }

  __device__ void write() const {
    const int row = threadIdx.x & ((1 << rows_log2_) - 1);
    store_sums<kTokens>(p_,
                        {.slot = place_.first_slot + row / kTileRows,
                         .row = row % kTileRows,
                         .first_token = 0,
                         .first = static_cast<int>(threadIdx.x) >> rows_log2_,
                         .n = p_.n_tokens,
                         .step = static_cast<int>(blockDim.x) >> rows_log2_},
                        [&](int token) { return sum(token, row); });
  }

  __device__ void write_swiglu() const {
    const int half_log2 = rows_log2_ - 1;
    for (int i = threadIdx.x; i < p_.n_tokens << half_log2; i += blockDim.x) {
      const int token = i >> half_log2, row = i & ((1 << half_log2) - 1);
      const int pair = row / kTileRows, gate_row = 2 * pair * kTileRows + row % kTileRows;
      store_swiglu(p_, place_.first_slot / 2 + pair, row % kTileRows, token, sum(token, gate_row),
                   sum(token, gate_row + kTileRows));
    }
  }

  const MmaParams& p_;
  const GemvPlace& place_;
  float* exchange_;
  int rows_log2_;
};

// By its largest CTA, and how many of these fit on an SM.
template <class Tile, class SecondTile, int kTokens>
inline constexpr int kGemvWarps = max_gemv_warps(Tile::kBytes, !std::is_same_v<Tile, SecondTile>, kTokens);
template <class Tile, class SecondTile, int kTokens>
inline constexpr int kGemvCtas = kGemvWarps<Tile, SecondTile, kTokens> == kMaxGemvWarps              ? 2
                                 : kTokens == 2 && std::max(Tile::kBytes, SecondTile::kBytes) > 3072 ? 2
                                                                                                     : 3;

template <class Tile, class SecondTile, int kTokens>
__global__ void __launch_bounds__(32 * kGemvWarps<Tile, SecondTile, kTokens>, kGemvCtas<Tile, SecondTile, kTokens>)
    matmul_gemv_kernel(const __grid_constant__ MmaParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  const GemvPlace place(p);
  const GemvLayout at = GemvLayout::of(kTokens, p.n_k_tiles, place.n_warps);
  float sums[2][kTokens] = {};
  if constexpr (std::is_same_v<Tile, SecondTile>) {
    multiply_rows<Tile, kTokens>(p, place, at, shared, sums);
  } else if (p.parts[slot_place(p, place.first_slot).part].second) {
    multiply_rows<SecondTile, kTokens>(p, place, at, shared, sums);
  } else {
    multiply_rows<Tile, kTokens>(p, place, at, shared, sums);
  }
  GemvEpilogue<kTokens>(p, place, reinterpret_cast<float*>(shared + at.exchange)).run(sums);
}

template <QuantType type, QuantType second = type>
cudaError_t launch_gemv(const MmaParams& params, const Launch& how) {
  using Tile = GemvTile<typename TileFormat<type>::Packed>;
  using SecondTile = GemvTile<typename TileFormat<second>::Packed>;
  return params.n_tokens == 1 ? launch(how, matmul_gemv_kernel<Tile, SecondTile, 1>, params)
                              : launch(how, matmul_gemv_kernel<Tile, SecondTile, 2>, params);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
