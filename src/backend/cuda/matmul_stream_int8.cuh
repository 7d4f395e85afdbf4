// The kernels of matmul_stream_int8.h.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cuda/int8_quantise.cuh"
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

// One token's activations as integers, in the order of one type: [K tile][sub-block][32], and SubblockFactors.
template <class PackedTile>
struct OneTokenRows {
  using Tile = GemvTile<PackedTile>;
  static constexpr ByteOrder kOrder = Tile::kOrder;
  static constexpr int kFactorsBytes = kTileSubblocks * static_cast<int>(sizeof(SubblockFactors));
  using Sums = float[2];  // a lane's, of rows g and g + 8

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
  __device__ void prepare(const MmaParams& p, int warp, int n_warps) const {
    ActivationQuantiser<OneTokenRows>(p, *this).template run<2>(warp, n_warps);
  }

  // A segment's tiles. Where registers hold a whole tile, its stage is given back first, so that all stages are under
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

// c[16 x 8] = a[16 x 32] b[32 x 8] + start, of integers; a of bytes signed or not.
template <bool kSigned>
__device__ __forceinline__ void multiply_bytes(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint32_t b0, uint32_t b1, const int (&start)[4]) {
  if constexpr (kSigned) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, "
        "%13};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(start[0]), "r"(start[1]), "r"(start[2]),
          "r"(start[3]));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, "
        "%13};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(start[0]), "r"(start[1]), "r"(start[2]),
          "r"(start[3]));
  }
}

// Four words to the lanes that want them; in the others they stay what they are.
__device__ __forceinline__ void load_where(bool wanted, const std::byte* from, uint32_t (&to)[4]) {
  asm volatile("{.reg .pred wanted; setp.ne.u32 wanted, %4, 0; @wanted ld.shared.v4.u32 {%0, %1, %2, %3}, [%5];}"
               : "+r"(to[0]), "+r"(to[1]), "+r"(to[2]), "+r"(to[3])
               : "r"(static_cast<uint32_t>(wanted)), "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from))));
}

// The activations of 2 to 8 tokens as integers: [K tile][pair of tokens], each a PairOfTokens. A second token that does
// not exist is whatever lies there: nothing but its own sums comes of it, and these are never used.
template <class PackedTile>
struct FewTokensRows {
  using Tile = PackedTile;
  using Gemv = GemvTile<PackedTile>;
  using Bytes = MmaBytesOf<typename Gemv::Codes>;
  using Pair = PairOfTokens<PackedTile>;
  static constexpr ByteOrder kOrder = Gemv::kOrder;
  static constexpr int kMaxPairs = kMaxStreamInt8Tokens / 2;
  using Sums = float[kMaxPairs][4];  // a lane's: rows g, g + 8 by the pair's tokens

  std::byte* pairs;
  int n_pairs;

  __device__ FewTokensRows(std::byte* shared, const MmaParams& p) : pairs(shared), n_pairs((p.n_tokens + 1) / 2) {}

  __device__ std::byte* pair_at(int tile, int pair) const { return pairs + (tile * n_pairs + pair) * Pair::kBytes; }
  __device__ uint32_t* word_at(int token, int tile, int subblock, int v) const {
    return reinterpret_cast<uint32_t*>(pair_at(tile, token / 2) + Pair::word_at(token % 2, subblock, v));
  }
  __device__ void store_factors(int token, int tile, int subblock, float scale, int sum0, int sum1) const {
    Pair::store_factors(pair_at(tile, token / 2), token % 2, subblock, scale, sum0, sum1);
  }
  __device__ void prepare(const MmaParams& p, int warp, int n_warps) const {
    ActivationQuantiser<FewTokensRows>(p, *this).template run<4>(warp, n_warps);
  }

  template <class Ring>
  __device__ __forceinline__ void multiply(Ring& ring, int first_tile, int n_tiles, Sums& sums) const {
    constexpr bool kHoldsTile = Tile::kBytes <= 4096;
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, token = g % 2;
    // Column g of B is the lane's token beside sub-block g / 2 of the quad's; other sub-blocks' codes meet zeros there.
    const bool meets = g / 2 == q;
    uint32_t x[2][4] = {};
    const std::byte* words = pair_at(first_tile, 0) + Pair::word_at(token, q, 0);
    const std::byte* factors = pair_at(first_tile, 0) + Pair::kFactorsAt + q * Pair::kFactorBytes;
    const int exchanged = token == 0 ? 16 : -16;  // from a sub-block's first 16 bytes to the others
    const int tile_step = n_pairs * Pair::kBytes;
    const auto half = [&]<int h>(const typename Tile::Regs& regs) {
      uint32_t codes[2][8 * Bytes::kSets];
      Bytes::template words<h, 0>(regs.codes, codes[0]);
      Bytes::template words<h, 1>(regs.codes, codes[1]);
      const CellFactors<Tile> cell[2] = {CellFactors<Tile>::template get<h, 0>(regs),
                                         CellFactors<Tile>::template get<h, 1>(regs)};
#pragma unroll
      for (int pair = 0; pair < kMaxPairs; ++pair) {
        if (pair >= n_pairs) break;
        const std::byte* from = words + pair * Pair::kBytes + h * 4 * kSubblockCols;
        load_where(meets, from, x[0]);
        load_where(meets, from + exchanged, x[1]);
        add_products(codes, cell, x, factors + pair * Pair::kBytes + h * 4 * Pair::kFactorBytes, sums[pair]);
      }
    };
    for (; n_tiles > 0; --n_tiles) {
      const SharedCursor weights = SharedCursor::at(ring.wait(), lane);
      typename Tile::Regs regs;
      Gemv::template load_half<1>(weights, regs);  // with it, what both halves need
      if constexpr (kHoldsTile) {
        Gemv::template load_half<0>(weights, regs);
        ring.refill();
      }
      half.template operator()<1>(regs);
      if constexpr (!kHoldsTile) Gemv::template load_half<0>(weights, regs);
      half.template operator()<0>(regs);
      if constexpr (!kHoldsTile) ring.refill();
      words += tile_step;
      factors += tile_step;
    }
  }

  // Adds the products of a half's cells (of rows g and g + 8) with a pair's activations.
  __device__ __forceinline__ static void add_products(const uint32_t (&codes)[2][8 * Bytes::kSets],
                                                      const CellFactors<Tile> (&cell)[2], const uint32_t (&x)[2][4],
                                                      const std::byte* factors, float (&sums)[4]) {
    constexpr int kParts = Pair::kPer16 ? 2 : 1;  // of a cell's columns, with scales of their own
    int products[kParts][4];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int i = 0; i < 4; ++i) products[part][i] = kIntegerMagicBits;
    }
#pragma unroll
    for (int set = 0; set < Bytes::kSets; ++set) {
#pragma unroll
      for (int v = 0; v < kSubblockWords; v += 2) {
        int(&c)[4] = products[v / 4 * (kParts - 1)];
        const int w = 8 * set + v;
        multiply_bytes<Bytes::kSigned>(c, codes[0][w], codes[1][w], codes[0][w + 1], codes[1][w + 1], x[v / 4][v % 4],
                                       x[v / 4][v % 4 + 1], c);
      }
    }
    float of[2 + Pair::kSums];
    if constexpr (Pair::kSums == 0) {
      *reinterpret_cast<float2*>(of) = *reinterpret_cast<const float2*>(factors);
    } else {
      *reinterpret_cast<float4*>(of) = *reinterpret_cast<const float4*>(factors);
      if constexpr (Pair::kSums == 4)
        *reinterpret_cast<float2*>(of + 4) = *reinterpret_cast<const float2*>(factors + 16);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = i / 2, token = i % 2;
      int parts[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) parts[part] = products[part][i];
      sums[i] = fmaf(cell[row].scaled(parts), of[token], sums[i]);
      if constexpr (Pair::kAddend) sums[i] = fmaf(cell[row].of.addend[0], of[2 + token], sums[i]);
      if constexpr (Pair::kAddend && Pair::kPer16) sums[i] = fmaf(cell[row].of.addend[1], of[4 + token], sums[i]);
    }
  }

  // Leaves the sums of a quad as [token][row]: lane q adds up row g + 8 (q / 2) of the pair's token q % 2.
  __device__ void leave(const Sums& sums, float* to) const {
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const bool lower = q / 2 != 0, second = q % 2 != 0;
    to += q % 2 * kTileRows + g + q / 2 * 8;
#pragma unroll
    for (int pair = 0; pair < kMaxPairs; ++pair) {
      if (pair >= n_pairs) break;
      const float(&s)[4] = sums[pair];
      float kept[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        kept[i] = (lower ? s[2 + i] : s[i]) + __shfl_xor_sync(0xffffffff, lower ? s[i] : s[2 + i], 2);
      to[pair * 2 * kTileRows] =
          (second ? kept[1] : kept[0]) + __shfl_xor_sync(0xffffffff, second ? kept[0] : kept[1], 1);
    }
  }
};

// A multiplying warp's work.
template <class Rows, class SecondRows, class Ring>
__device__ __forceinline__ void multiply_all(const MmaParams& p, const CtaSlots& slots, const PanelSums& panels,
                                             const Rows& first, const SecondRows& second, int warp, Ring& ring) {
  for (SegmentWalk walk = SegmentWalk::first(warp, p.stream); walk.i < slots.n; walk.advance(p.stream)) {
    const int first_tile = walk.first_chunk(p.stream), n_tiles = walk.chunks(p.stream, p.n_k_tiles);
    typename Rows::Sums sums = {};
    bool is_second = false;
    if constexpr (!std::is_same_v<Rows, SecondRows>) {
      is_second = p.parts[slot_place(p, slots[walk.i]).part].second;
      if (is_second) second.multiply(ring, first_tile, n_tiles, sums);
    }
    if (!is_second) first.multiply(ring, first_tile, n_tiles, sums);
    panels.add(walk.i, walk.segment, [&](float* to) { first.leave(sums, to); });
  }
}

#endif  // SPATE_HAS_BULK_COPY

// What activations take of shared memory for each K tile: one token's, or a pair's.
template <bool kOneToken, class Tile>
inline constexpr int kActivationBytes = kOneToken
                                            ? kTileCols + kTileSubblocks* static_cast<int>(sizeof(SubblockFactors))
                                            : PairOfTokens<Tile>::kBytes;

template <bool kOneToken, class Tile, class SecondTile>
inline constexpr int kAllActivationBytes = kActivationBytes<kOneToken, Tile> +
                                           (std::is_same_v<Tile, SecondTile> ? 0
                                                                             : kActivationBytes<kOneToken, SecondTile>);

template <bool kOneToken, class Tile, class SecondTile>
inline constexpr int kStreamInt8Threads =
    32 * (max_stream_int8_warps(kOneToken, Tile::kBytes, !std::is_same_v<Tile, SecondTile>) + kFinishers);

template <bool kOneToken, class Tile, class SecondTile>
__global__ void __launch_bounds__((kStreamInt8Threads<kOneToken, Tile, SecondTile>), kOneToken ? 2 : 1)
    matmul_stream_int8_kernel(const __grid_constant__ MmaParams p) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  using First = std::conditional_t<kOneToken, OneTokenRows<Tile>, FewTokensRows<Tile>>;
  using Second = std::conditional_t<kOneToken, OneTokenRows<SecondTile>, FewTokensRows<SecondTile>>;
  using Chunks = TileChunks<Tile, SecondTile>;
  constexpr bool kTwoTypes = !std::is_same_v<Tile, SecondTile>;
  const int tokens_log2 = kOneToken ? 0 : shared_tokens_log2(1, p.n_tokens);
  const StreamBytes bytes =
      int8_stream(p.n_k_tiles, p.n_tokens, kAllActivationBytes<kOneToken, Tile, SecondTile>, Chunks::kStageBytes);
  const StreamLayout at = StreamLayout::of(p.stream, bytes, tokens_log2);
  const CtaSlots slots(p);
  const PanelSums panels(p, at, shared, tokens_log2);
  const First first(shared, p);
  const int second_at = p.n_k_tiles * int8_groups(p.n_tokens) * kActivationBytes<kOneToken, Tile>;
  const Second second(shared + (kTwoTypes ? second_at : 0), p);
  run_streaming<Chunks>(
      p, slots, panels, at, shared,
      [&](int warp) {
        if constexpr (!kTwoTypes) {
          first.prepare(p, warp, p.stream.n_warps);
        } else if (warp % 2 == 0) {  // there is an even number of them
          first.prepare(p, warp / 2, p.stream.n_warps / 2);
        } else {
          second.prepare(p, warp / 2, p.stream.n_warps / 2);
        }
      },
      [&](int warp, ChunkRing<Chunks>& ring) { multiply_all(p, slots, panels, first, second, warp, ring); });
#endif
}

template <bool kOneToken, class Tile, class SecondTile>
cudaError_t launch_stream_int8(const MmaParams& params, const Launch& how) {
  return launch(how, matmul_stream_int8_kernel<kOneToken, Tile, SecondTile>, params);
}

template <QuantType type, QuantType second = type>
constexpr StreamInt8Kernels make_stream_int8_kernels() {
  using Tile = typename TileFormat<type>::Packed;
  using SecondTile = typename TileFormat<second>::Packed;
  return {{launch_stream_int8<true, Tile, SecondTile>, kAllActivationBytes<true, Tile, SecondTile>},
          {launch_stream_int8<false, Tile, SecondTile>, kAllActivationBytes<false, Tile, SecondTile>}};
}

#endif  // __CUDACC__

}  // namespace spate::cuda
