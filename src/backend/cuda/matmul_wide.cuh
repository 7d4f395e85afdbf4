// The product of 9 to some hundred tokens with quantised weights, for devices with wgmma (compute capability 9.0):
// weights as A, decoded to float16 in registers as everywhere (tile_codes.h), activations as B in shared memory.
//
// A CTA has 16 warps that multiply, four warpgroups: 2^warps_m_log2 warps take different panels of 16 rows, the others
// share out K in tiles of 256. Nobody waits at a barrier of the CTA on the way:
// - each of these warps has a ring of chunks of its own panel's weights, filled by bulk copies that it starts itself,
//   the first of them before the kernel's predecessor has ended;
// - one more warp fills a ring of activations, half a tile's columns at a time, by tensor copies that swizzle them;
// - products are asynchronous: while one runs, the warp decodes for the next.
// K may besides be cut between the CTAs of a cluster (matmul_wide_epilogue.cuh).
#pragma once

#include <cuda.h>
#include <type_traits>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_wide.h"
#include "backend/cuda/matmul_wide_epilogue.cuh"
#include "backend/cuda/wgmma.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_WGMMA

// A warp's weights on their way through its ring: every warps_k-th tile of its panel, in chunks.
template <class Tile>
class WeightRing {
 public:
  static constexpr int kPerTile = wide_chunks_per_tile(Tile::kBytes), kBytes = Tile::kBytes / kPerTile;

  // from: the warp's first tile, of n_tiles. Fills n_early of the stages. All lanes of the warp.
  __device__ WeightRing(std::byte* ring, uint32_t barriers, int n_stages, int n_early, const std::byte* from,
                        int n_tiles, int warps_k)
      : chunk_(ring),
        barrier_(barriers),
        last_barrier_(barriers + 8 * (n_stages - 1)),
        n_stages_(n_stages),
        from_(from),
        tile_step_(warps_k * Tile::kBytes) {
    if (threadIdx.x % 32 == 0) {
      for (int i = 0; i < n_stages; ++i) barrier_init(barriers + 8 * i, 1);
      publish_barriers();
    }
    __syncwarp();
    fill_stages(0, min(n_early, n_tiles * kPerTile));
  }

  // Fills the stages from n_early on, before the first is read; n_tiles: as above.
  __device__ void fill_rest(int n_early, int n_tiles) {
    if (n_early < n_stages_) fill_stages(n_early, min(n_stages_, n_tiles * kPerTile));
  }

  // The current chunk, once it has come.
  __device__ const std::byte* wait() const {
    barrier_wait(barrier_, phase_);
    return chunk_;
  }

  // The warp has read the current chunk, which n_left more follow: its place goes to the next one that has none yet.
  __device__ void advance(int n_left) {
    __syncwarp();
    if (n_left >= n_stages_) fill();
    next();
  }

 private:
  __device__ void fill() {
    if (elect_lane()) copy_bulk(shared_address(chunk_), from_, kBytes, barrier_);
    if constexpr (kPerTile == 1) {
      from_ += tile_step_;
    } else {
      from_ += is_second_ ? tile_step_ - kBytes : kBytes;
      is_second_ = !is_second_;
    }
  }
  // Stages [first, end), from the first stage on as the current one.
  __device__ void fill_stages(int first, int end) {
    std::byte* const ring = chunk_;
    const uint32_t barriers = barrier_;
    chunk_ += first * kBytes;
    barrier_ += 8 * first;
    for (int i = first; i < end; ++i) {
      fill();
      chunk_ += kBytes;
      barrier_ += 8;
    }
    chunk_ = ring;
    barrier_ = barriers;
  }
  __device__ void next() {
    chunk_ += kBytes;
    barrier_ += 8;
    if (barrier_ > last_barrier_) {
      chunk_ -= n_stages_ * kBytes;
      barrier_ -= 8 * n_stages_;
      phase_ ^= 1;
    }
  }

  std::byte* chunk_;  // the current one
  uint32_t barrier_, last_barrier_, phase_ = 0;
  int n_stages_;
  const std::byte* from_;  // the next one to ask for
  int tile_step_;
  bool is_second_ = false;  // of its tile
};

// The ring of activations: a stage has half a tile's columns of kTokens tokens, of each of the warps_k tiles that are
// multiplied beside each other.
struct ActivationRing {
  uint32_t at, barriers;  // shared addresses: the first stage; the barriers of full stages, then those of empty ones
  int n_stages, stage_bytes;

  __device__ void init() const {
    for (int i = 0; i < n_stages; ++i) {
      barrier_init(barriers + 8 * i, 1);
      barrier_init(barriers + 8 * (n_stages + i), kWideWarps);
    }
    publish_barriers();
  }
};

// Where a warp stands in it.
struct ActivationPlace {
  uint32_t at;  // the warp's part of the current stage
  uint32_t full, last_full, phase = 0;
  int n_stages, stage_bytes;

  __device__ ActivationPlace(const ActivationRing& ring, int offset)
      : at(ring.at + offset),
        full(ring.barriers),
        last_full(ring.barriers + 8 * (ring.n_stages - 1)),
        n_stages(ring.n_stages),
        stage_bytes(ring.stage_bytes) {}

  __device__ void wait() const { barrier_wait(full, phase); }
  // The barrier of the current stage that tells that warps have read it.
  __device__ uint32_t empty() const { return full + 8 * n_stages; }
  __device__ void next() {
    at += stage_bytes;
    full += 8;
    if (full > last_full) {
      at -= n_stages * stage_bytes;
      full -= 8 * n_stages;
      phase ^= 1;
    }
  }
};

// The warp that fills the ring; one lane.
template <int kTokens>
__device__ __forceinline__ void send_activations(const CUtensorMap& map, const CtaPlace& place,
                                                 const ActivationRing& ring) {
  constexpr int kBoxBytes = kTokens * kWideBoxCols * 2;
  ActivationPlace stage(ring, 0);
  for (int first = 0; first < place.n_tiles; first += place.warps_k) {
    const int n = min(place.warps_k, place.n_tiles - first);
    for (int column = 0; column < kTileCols; column += kWideStageCols) {
      barrier_wait(stage.empty(), stage.phase ^ 1);
      const uint32_t full = stage.full;
      uint32_t to = stage.at;
      barrier_expect(full, n * kWideBoxes * kBoxBytes);
      for (int i = 0; i < n * kWideBoxes; ++i, to += kBoxBytes)
        copy_box(to, &map,
                 (place.first_tile + first + i / kWideBoxes) * kTileCols + column + i % kWideBoxes * kWideBoxCols,
                 place.first_token, full);
      stage.next();
    }
  }
}

// A multiplying warp's work, of at least one tile; warpgroups stay together, as their warps have the same number of
// tiles. Leaves x behind the activations that it read. nowhere: a barrier that nobody waits for.
template <class Tile, int kTokens>
__device__ __forceinline__ void multiply_wide(WeightRing<Tile>& weights, ActivationPlace& x, int n_tiles,
                                              uint32_t nowhere, Sums<kTokens / 8, 1>& sums) {
  // Groups of 32 columns whose products are under way together: the more the fewer waits, as registers allow.
  constexpr int kGroup = kTokens <= 32 ? 4 : kTokens <= 64 ? 2 : 1, kBoxBytes = kTokens * kWideBoxCols * 2;
  const int lane = threadIdx.x % 32;
  uint32_t read = nowhere;  // the barrier of the stage that the products under way read
  // Half h of a tile, its columns 32 c to 32 (c + kGroup).
  const auto group = [&]<int h, int first>(const typename Tile::Regs& regs, const typename Tile::Factors(&factors)[2],
                                           uint64_t b) {
    Half2Bits w[kGroup][2][4];
    const auto decode = [&]<int i>() {
      Tile::template weights<h, 0, first + i>(regs, factors[0], w[i][0]);
      Tile::template weights<h, 1, first + i>(regs, factors[1], w[i][1]);
    };
    decode.template operator()<0>();
    if constexpr (kGroup >= 2) decode.template operator()<1>();
    if constexpr (kGroup == 4) {
      decode.template operator()<2>();
      decode.template operator()<3>();
    }
    start_products();
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int c = first + i;
      const uint64_t at = b + (c / 2 * kBoxBytes / 16 + c % 2 * 2 * kDescribed16Columns);
      multiply_async(sums.of[0], w[i][0][0], w[i][1][0], w[i][0][1], w[i][1][1], at);
      multiply_async(sums.of[0], w[i][0][2], w[i][1][2], w[i][0][3], w[i][1][3], at + kDescribed16Columns);
    }
    close_products();
    wait_products<1>();
  };
  const auto half = [&]<int h>(const std::byte* chunk) {
    const SharedCursor cursor = SharedCursor::at(chunk, lane);
    const typename Tile::Regs regs = Tile::load(cursor);
    const typename Tile::Factors factors[2] = {Tile::template factors<h, 0>(regs), Tile::template factors<h, 1>(regs)};
    x.wait();
    const uint64_t b = describe_b(x.at);
    group.template operator()<h, 0>(regs, factors, b);
    if (lane == 0) barrier_arrive(read);
    // Halves that come by themselves leave no registers to keep all codes in; many sums none but for a group's own.
    if constexpr (kGroup == 2)
      group.template operator()<h, 2>(WeightRing<Tile>::kPerTile == 1 ? regs : Tile::load(cursor), factors, b);
    if constexpr (kGroup == 1) {
      group.template operator()<h, 1>(Tile::load(cursor), factors, b);
      group.template operator()<h, 2>(Tile::load(cursor), factors, b);
      group.template operator()<h, 3>(Tile::load(cursor), factors, b);
    }
    read = x.empty();
    x.next();
  };
  int left = n_tiles;
  do {
    if constexpr (WeightRing<Tile>::kPerTile == 1) {
      const std::byte* tile = weights.wait();
      half.template operator()<0>(tile);
      half.template operator()<1>(tile);
      weights.advance(left - 1);
    } else {
      // A half by itself looks like the first of a tile.
      for (int h = 0; h < 2; ++h) {
        half.template operator()<0>(weights.wait());
        weights.advance(2 * left - 1 - h);
      }
    }
  } while (--left > 0);
  wait_products<0>();
  if (lane == 0) barrier_arrive(read);
}

// Passes over the activations of a round of tiles in which the warp has none.
__device__ __forceinline__ void skip_activations(ActivationPlace& x) {
  for (int column = 0; column < kTileCols; column += kWideStageCols) {
    x.wait();
    if (threadIdx.x % 32 == 0) barrier_arrive(x.empty());
    x.next();
  }
}

// Where a warp's panel is. What lies behind the last slot, or between parts of two types, does what a panel that exists
// does, for the warpgroup's sake; it is never written.
__device__ __forceinline__ const std::byte* wide_panel(const MmaParams& p, int slot, int tile_bytes) {
  const SlotPlace place = slot_place(p, min(slot, p.n_slots - 1));
  const MatmulPart& part = p.parts[place.part];
  const int panel = min(place.panel, (part.n_rows - 1) / kTileRows);
  return part.tiles + int64_t{panel} * p.n_k_tiles * tile_bytes;
}

// A multiplying warp's way through the kernel up to its sums, for the format of its CTA. at: where the
// host laid out the rings; that of activations has its barriers. nowhere: as above.
template <class Tile, int kTokens>
__device__ __forceinline__ void multiply_cta(const MmaParams& p, const CtaPlace& place, const WideLayout& at, int warp,
                                             std::byte* shared, const ActivationRing& ring, uint32_t nowhere,
                                             Sums<kTokens / 8, 1>& sums) {
  const std::byte* panel = wide_panel(p, place.first_slot + place.warp_m, Tile::kBytes);
  WeightRing<Tile> weights(
      shared + at.weights + warp * at.weights_of_warp,
      ring.barriers + 8 * (2 * p.wide.x_stages + warp * p.wide.weight_stages), p.wide.weight_stages, p.wide_early,
      panel + int64_t{place.first_tile + place.warp_k} * Tile::kBytes, place.warp_tiles(), place.warps_k);
  wait_for_predecessor();
  const TokenShare share = TokenShare::of(min(p.n_tokens - place.first_token, kTokens));
  prepare_token_factors<8>(p, place.first_token + share.begin, share.end - share.begin, threadIdx.x, 32 * kWideWarps);
  sums = {};
  ActivationPlace x(ring, place.warp_k * kWideBoxes * kTokens * kWideBoxCols * 2);
  x.wait();  // weights asked for before activations have come would have these wait
  weights.fill_rest(p.wide_early, place.warp_tiles());
  if (place.warp_tiles() > 0) multiply_wide<Tile, kTokens>(weights, x, place.warp_tiles(), nowhere, sums);
  const int n_rounds = (place.n_tiles + place.warps_k - 1) / place.warps_k;
  if (place.warp_tiles() < n_rounds) skip_activations(x);
}

#endif  // SPATE_HAS_WGMMA

// Parts of two formats: each CTA's slots are of one (MatmulPart::second).
template <class Tile, class SecondTile, int kTokens>
__global__ void __launch_bounds__(kWideThreads, 1)
    matmul_wide_kernel(const __grid_constant__ MmaParams p, const __grid_constant__ CUtensorMap x_map) {
#if SPATE_HAS_WGMMA
  constexpr int kTileBytes = Tile::kBytes > SecondTile::kBytes ? Tile::kBytes : SecondTile::kBytes;
  static_assert(wide_chunks_per_tile(kTileBytes) == wide_chunks_per_tile(Tile::kBytes) &&
                wide_chunks_per_tile(kTileBytes) == wide_chunks_per_tile(SecondTile::kBytes));
  extern __shared__ __align__(1024) std::byte unaligned[];
  release_successor();
  std::byte* shared = unaligned + (-shared_address(unaligned) & (kWideAlignment - 1));
  // From one lane, so that the compiler knows it, and all that follows from it, to be the same in the warp. With 128
  // tokens it then runs out of registers.
  const int own_warp = threadIdx.x / 32, warp = kTokens <= 64 ? __shfl_sync(0xffffffff, own_warp, 0) : own_warp;
  const CtaPlace place(p, kTokens, 1, warp, kWideWarpsLog2);
  const WideLayout at = WideLayout::of(p.wide, kTokens, place.warps_k, kTileBytes);
  const uint32_t base = shared_address(shared);
  const ActivationRing x{
      .at = base, .barriers = base + at.barriers, .n_stages = p.wide.x_stages, .stage_bytes = at.x_stage};
  const uint32_t nowhere = base + at.barriers + 8 * (2 * p.wide.x_stages + kWideWarps * p.wide.weight_stages);
  if (threadIdx.x == 32 * kWideWarps) {
    prefetch_map(&x_map);
    x.init();
    barrier_init(nowhere, kWideWarps);
  }
  __syncthreads();
  if (warp >= kWideWarps) {
    give_registers<kWideFewRegisters>();
    wait_for_predecessor();
    if (threadIdx.x == 32 * kWideWarps) send_activations<kTokens>(x_map, place, x);
    return;
  }
  take_registers<kWideManyRegisters>();
  Sums<kTokens / 8, 1> sums;
  if (!std::is_same_v<Tile, SecondTile> && p.parts[slot_place(p, place.first_slot).part].second) {
    multiply_cta<SecondTile, kTokens>(p, place, at, warp, shared, x, nowhere, sums);
  } else {
    multiply_cta<Tile, kTokens>(p, place, at, warp, shared, x, nowhere, sums);
  }
  WideEpilogue<kTokens>(p, place, reinterpret_cast<float*>(shared)).run(sums);
#endif
}

#endif  // __CUDACC__

}  // namespace spate::cuda
