// The product of 1 to some hundred tokens with quantised weights, on the tensor cores: weights as A (16 rows of
// mma.m16n8k16), decoded to float16 in registers, tokens as N. Every weight is read and decoded once for 8 * kOctets
// tokens.
//
// A CTA has 8 warps: warps_m of them take different panels of 16 rows, the others share out the K of these in tiles of
// 256. Weights go from global memory to registers, the tile after the current one in flight; activations through a ring
// of shared memory. K may besides be cut between CTAs (gridDim.y); the CTA that ends last adds up the parts in their
// order, so that no result depends on timing.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_params.h"
#include "backend/cuda/tile_format.h"

namespace spate::cuda {

inline constexpr int kMmaWarps = 8;
inline constexpr int kMmaThreads = 32 * kMmaWarps;
inline constexpr int kRowPad = 4;  // floats behind a row of sums in shared memory: no bank conflicts

// Tokens a CTA's shared memory holds: all of its octets', or, of the smallest, only those that exist.
SPATE_HD constexpr int shared_tokens(int n_octets, int n_tokens) {
  return n_octets == 1 && n_tokens < 8 ? n_tokens : 8 * n_octets;
}

// Bytes of one stage of the ring, and of the sums' exchange at the end.
SPATE_HD constexpr int stage_bytes(int n_octets, int n_tokens, int warps_m) {
  return kMmaWarps / warps_m * shared_tokens(n_octets, n_tokens) * kTileCols * 2;
}
SPATE_HD constexpr int exchange_bytes(int n_octets, int n_panels, int warps_m) {
  return kMmaWarps / warps_m * 8 * n_octets * (warps_m * n_panels * kTileRows + kRowPad) * 4;
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

// A warp's sums: kPanels x 16 rows by kOctets x 8 tokens. Lane 4 g + t holds rows g, g + 8 and tokens 2 t, 2 t + 1 of
// each.
template <int kOctets, int kPanels>
struct Sums {
  float of[kPanels][kOctets][4];
};

// Adds the product of one tile of each panel with the activations at x_even / x_odd: a lane's ldmatrix addresses in the
// tile's 256 columns for even and odd groups of 32 (the swizzle exchanges them).
template <class Tile, int kOctets, int kPanels>
__device__ __forceinline__ void multiply_tiles(const typename Tile::Regs (&regs)[kPanels], uint32_t x_even,
                                               uint32_t x_odd, Sums<kOctets, kPanels>& sums) {
  const auto half_tile = [&]<int h>() {
    Factors factors[kPanels][2];
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
        load_matrices(b, (c % 2 == 0 ? x_even : x_odd) + (h * 16 + c / 2 * 8) * 16 + o * 8 * kTileCols * 2);
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
  };
  half_tile.template operator()<0>();
  half_tile.template operator()<1>();
}

// Where a slot's tiles are; null for a slot past the last.
__device__ __forceinline__ const std::byte* slot_tiles(const MmaParams& p, int slot, int tile_bytes) {
  if (slot >= p.n_slots) return nullptr;
  if (p.epilogue == Epilogue::kSwiGlu) return p.parts[slot & 1].tiles + int64_t{slot >> 1} * p.n_k_tiles * tile_bytes;
  int part = 0, first = 0;
  while (slot >= p.parts[part].panel_end) first = p.parts[part++].panel_end;
  return p.parts[part].tiles + int64_t{slot - first} * p.n_k_tiles * tile_bytes;
}

// Writes one sum of row `row` of slot `slot` and token `token`.
__device__ __forceinline__ void store_sum(const MmaParams& p, int slot, int row, int token, float sum) {
  if (slot >= p.n_slots) return;
  int part = 0, first = 0;
  while (slot >= p.parts[part].panel_end) first = p.parts[part++].panel_end;
  const int r = (slot - first) * kTileRows + row;
  if (r >= p.parts[part].n_rows) return;
  float& y = p.y[token * p.y_stride + p.parts[part].column + r];
  const float value = sum * p.parts[part].factor;
  y = p.epilogue == Epilogue::kAdd ? y + value : value;
}

__device__ __forceinline__ void store_swiglu(const MmaParams& p, int panel, int row, int token, float gate_sum,
                                             float up_sum) {
  const int r = panel * kTileRows + row;
  if (r >= p.parts[0].n_rows) return;
  const float gate = gate_sum * p.parts[0].factor, up = up_sum * p.parts[1].factor;
  const float product = gate / (1.0f + __expf(-gate)) * up * kFfScale;
  p.ff[token * p.ff_stride + k_position(r)] = __float2half_rn(product);
}

// What a CTA's tile of sums still needs: added up over its warps that shared K, over the CTAs that did, then written.
template <int kOctets, int kPanels>
class Epilogues {
 public:
  __device__ Epilogues(const MmaParams& p, float* exchange, int first_slot, int first_token, int tile_index)
      : p_(p),
        exchange_(exchange),
        rows_(p.warps_m * kPanels * kTileRows),
        first_slot_(first_slot),
        first_token_(first_token),
        tile_index_(tile_index),
        n_tokens_(min(p.n_tokens - first_token, kTokens)) {}

  __device__ void run(const Sums<kOctets, kPanels>& sums, int warp_m, int warp_k) {
    exchange(sums, warp_m, warp_k);
    if (gridDim.y > 1) {
      if (!share_partials()) return;
      write([&](int token, int row) {
        float sum = 0;
        for (unsigned part = 0; part < gridDim.y; ++part) sum += __ldcg(partial(part) + token * rows_ + row);
        return sum;
      });
    } else {
      write([&](int token, int row) { return own_sum(token, row); });
    }
  }

 private:
  static constexpr int kTokens = 8 * kOctets;

  // Sums of all warps to shared memory, [warps_k][kTokens][rows + pad].
  __device__ void exchange(const Sums<kOctets, kPanels>& sums, int warp_m, int warp_k) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    __syncthreads();  // the ring of activations lies in the same memory
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma unroll
      for (int o = 0; o < kOctets; ++o) {
        const float* sum = sums.of[panel][o];
        float* at = exchange_ + (warp_k * kTokens + 8 * o + 2 * t) * (rows_ + kRowPad) +
                    (warp_m * kPanels + panel) * kTileRows + g;
        at[0] = sum[0];
        at[rows_ + kRowPad] = sum[1];
        at[8] = sum[2];
        at[rows_ + kRowPad + 8] = sum[3];
      }
    }
    __syncthreads();
  }

  __device__ float own_sum(int token, int row) const {
    float sum = 0;
    const int warps_k = kMmaWarps / p_.warps_m;
    for (int k = 0; k < warps_k; ++k) sum += exchange_[(k * kTokens + token) * (rows_ + kRowPad) + row];
    return sum;
  }

  __device__ float* partial(unsigned part) const {
    return p_.partials + (int64_t{tile_index_} * gridDim.y + part) * kTokens * rows_;
  }

  // Leaves this CTA's sums for the others; true in the CTA that comes last.
  __device__ bool share_partials() {
    __shared__ bool last;
    float* mine = partial(blockIdx.y);
    for (int i = threadIdx.x; i < n_tokens_ * rows_; i += kMmaThreads) mine[i] = own_sum(i / rows_, i % rows_);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      last = atomicAdd(&p_.counters[tile_index_], 1u) == gridDim.y - 1;
      if (last) p_.counters[tile_index_] = 0;
    }
    __syncthreads();
    if (last) __threadfence();
    return last;
  }

  template <typename Sum>
  __device__ void write(Sum&& sum) {
    if (p_.epilogue == Epilogue::kSwiGlu) {
      const int half_rows = rows_ / 2;
      for (int i = threadIdx.x; i < n_tokens_ * half_rows; i += kMmaThreads) {
        const int token = i / half_rows, row = i % half_rows, panel = row / kTileRows;
        const int gate_row = 2 * panel * kTileRows + row % kTileRows;
        store_swiglu(p_, first_slot_ / 2 + panel, row % kTileRows, first_token_ + token, sum(token, gate_row),
                     sum(token, gate_row + kTileRows));
      }
      return;
    }
    for (int i = threadIdx.x; i < n_tokens_ * rows_; i += kMmaThreads) {
      const int token = i / rows_, row = i % rows_;
      store_sum(p_, first_slot_ + row / kTileRows, row % kTileRows, first_token_ + token, sum(token, row));
    }
  }

  const MmaParams& p_;
  float* exchange_;
  int rows_, first_slot_, first_token_, tile_index_, n_tokens_;
};

// Copies of activations into the ring: stage s holds, for each warp_k, the tile of 256 columns that it takes in
// iteration s, token by token, 16-byte chunks XORed with token & 7.
struct ActivationRing {
  const __half* x;  // of the CTA's first token
  int x_stride, n_rows, copied_rows;
  int warps_k, first_tile, end_tile;
  uint32_t base;
  int stage_bytes, n_stages;

  __device__ uint32_t stage(int iteration) const { return base + iteration % n_stages * stage_bytes; }

  __device__ void issue(int iteration) const {
    constexpr int kChunks = kTileCols / 8;
    const int first = first_tile + iteration * warps_k;
    const uint32_t to = stage(iteration);
    for (int i = threadIdx.x; i < warps_k * copied_rows * kChunks; i += kMmaThreads) {
      const int chunk = i % kChunks, token = i / kChunks % copied_rows, k = i / kChunks / copied_rows;
      if (first + k >= end_tile) break;
      copy16_async(to + ((k * n_rows + token) * kChunks + (chunk ^ (token & 7))) * 16,
                   x + int64_t{token} * x_stride + (first + k) * kTileCols + chunk * 8);
    }
  }
};

// Grid: x, slot groups times token groups, the latter fastest (they share weights in the second-level cache); y, parts
// of K.
template <class Tile, int kOctets, int kPanels, bool kPrefetch, int kStages>
__global__ void __launch_bounds__(kMmaThreads) matmul_mma_kernel(const __grid_constant__ MmaParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  constexpr int kTokens = 8 * kOctets;
  release_successor();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_m = warp % p.warps_m, warp_k = warp / p.warps_m, warps_k = kMmaWarps / p.warps_m;
  const int token_groups = (p.n_tokens + kTokens - 1) / kTokens;
  const int first_token = static_cast<int>(blockIdx.x) % token_groups * kTokens;
  const int first_slot = static_cast<int>(blockIdx.x) / token_groups * p.warps_m * kPanels;
  const int first_tile = static_cast<int>(int64_t{p.n_k_tiles} * blockIdx.y / gridDim.y);
  const int end_tile = static_cast<int>(int64_t{p.n_k_tiles} * (blockIdx.y + 1) / gridDim.y);
  const int n_iterations = (end_tile - first_tile + warps_k - 1) / warps_k;

  const std::byte* panel[kPanels];
#pragma unroll
  for (int i = 0; i < kPanels; ++i) panel[i] = slot_tiles(p, first_slot + warp_m * kPanels + i, Tile::kBytes);
    // A panel past the last is computed as the first of the warp's and never written; a warp with none at all idles.
#pragma unroll
  for (int i = 1; i < kPanels; ++i)
    if (panel[i] == nullptr) panel[i] = panel[0];
  const bool has_rows = panel[0] != nullptr;
  const auto has_tile = [&](int iteration) { return has_rows && first_tile + iteration * warps_k + warp_k < end_tile; };
  const auto load_tiles = [&](typename Tile::Regs(&regs)[kPanels], int iteration) {
    const int64_t tile = first_tile + iteration * warps_k + warp_k;
#pragma unroll
    for (int i = 0; i < kPanels; ++i) regs[i] = Tile::load(panel[i] + tile * Tile::kBytes, lane);
  };

  typename Tile::Regs current[kPanels];
  if (kPrefetch && has_tile(0)) load_tiles(current, 0);

  const int n_rows = shared_tokens(kOctets, p.n_tokens);
  ActivationRing ring{.x = p.x + int64_t{first_token} * p.x_stride,
                      .x_stride = p.x_stride,
                      .n_rows = n_rows,
                      .copied_rows = min(n_rows, p.n_tokens - first_token),
                      .warps_k = warps_k,
                      .first_tile = first_tile,
                      .end_tile = end_tile,
                      .base = shared_address(shared),
                      .stage_bytes = stage_bytes(kOctets, p.n_tokens, p.warps_m),
                      .n_stages = kStages};
  wait_for_predecessor();
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < n_iterations) ring.issue(i);
    commit_copies();
  }

  // ldmatrix: lane l addresses row l % 8 of matrix l / 8, a token's 8 columns. Tokens that do not exist read an
  // existing one's.
  const int token = min(lane % 8, n_rows - 1), swizzled = (lane / 8) ^ (token & 3);
  const uint32_t lane_x = ((warp_k * n_rows + token) * (kTileCols / 8) + swizzled) * 16;
  const uint32_t even = lane_x + (token & 4) * 16, odd = lane_x + (4 - (token & 4)) * 16;

  Sums<kOctets, kPanels> sums = {};
  for (int i = 0; i < n_iterations; ++i) {
    if (!kPrefetch && has_tile(i)) load_tiles(current, i);
    wait_for_copies<kStages - 2>();
    __syncthreads();
    if (i + kStages - 1 < n_iterations) ring.issue(i + kStages - 1);
    commit_copies();
    typename Tile::Regs next[kPanels];
    if (kPrefetch && has_tile(i + 1)) load_tiles(next, i + 1);
    if (has_tile(i)) multiply_tiles<Tile, kOctets, kPanels>(current, ring.stage(i) + even, ring.stage(i) + odd, sums);
    if constexpr (kPrefetch) {
#pragma unroll
      for (int j = 0; j < kPanels; ++j) current[j] = next[j];
    }
  }
  wait_for_copies<0>();
  Epilogues<kOctets, kPanels>(p, reinterpret_cast<float*>(shared), first_slot, first_token, blockIdx.x)
      .run(sums, warp_m, warp_k);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
