// A CTA's activations of one or two tokens on their way from float16 to integers in shared memory (int8_activations.h),
// and a lane's way through these.
#pragma once

#include "backend/cuda/gemv_tile.h"
#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

// What a token's columns of a K tile take: integers, [sub-block][32], and SubblockFactors.
inline constexpr int kInt8WordsBytes = kTileCols;
inline constexpr int kInt8FactorsBytes = kTileSubblocks * static_cast<int>(sizeof(SubblockFactors));

#ifdef __CUDACC__

// Turns activations into integers. A warp takes 256 columns of a token at a time; lane l has eight columns of sub-block
// 4 (l / 16) + l % 4, two words of their bytes. Neighbouring pairs of lanes read 32 bytes together.
template <class Tile, int kTokens>
class ActivationQuantiser {
 public:
  // words, factors: shared memory of all tokens and K tiles.
  __device__ ActivationQuantiser(const MmaParams& p, std::byte* words, std::byte* factors)
      : p_(p), words_(words), factors_(factors) {
    const int lane = threadIdx.x % 32, t = lane % 4;
    first_word_ = lane / 8 % 2 * 4 + lane / 4 % 2;
    subblock_ = lane / 16 * 4 + t;
    from_ = lane / 16 * 128 + 2 * t;
  }

  // Quantises warp `warp`'s share of n_warps; calls while_loading() when its first loads are under way.
  template <typename WhileLoading>
  __device__ void run(int warp, int n_warps, WhileLoading&& while_loading) const {
    constexpr int kAtOnce = 2;
    const int n_units = kTokens * p_.n_k_tiles;
    for (int first = warp; first < n_units || first == warp; first += kAtOnce * n_warps) {
      uint32_t x[kAtOnce][2][2];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (first + i * n_warps < n_units) load(first + i * n_warps, x[i]);
      if (first == warp) while_loading();
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (first + i * n_warps < n_units) quantise(first + i * n_warps, x[i]);
    }
  }

 private:
  // The lane's four pairs of columns in unit (token, tile): of two words, the first and the second pair.
  __device__ void load(int unit, uint32_t (&x)[2][2]) const {
    const bool second = kTokens == 2 && unit >= p_.n_k_tiles;
    const int tile = second ? unit - p_.n_k_tiles : unit;
    const __half* from = p_.x + (second ? p_.x_stride : 0) + tile * kTileCols + from_;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        x[i][pair] =
            __ldcg(reinterpret_cast<const unsigned*>(from + 8 * pair_of_word(Tile::kOrder, first_word_ + 2 * i, pair)));
    }
  }

  __device__ void quantise(int unit, const uint32_t (&x)[2][2]) const {
    // Magnitudes compare as their bits do; those of what is not a number are the largest.
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t magnitudes = x[i / 2][i % 2] & 0x7fff7fff;
      largest = max(largest, max(magnitudes & 0xffff, magnitudes >> 16));
    }
    largest = max(largest, __shfl_xor_sync(0xffffffff, largest, 4));
    largest = max(largest, __shfl_xor_sync(0xffffffff, largest, 8));
    const Int8Scale scale = int8_scale(low_float(largest));
    const int subblock = unit * kTileSubblocks + subblock_;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t bits[2][2];
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        bits[pair][0] = int8_bits(low_float(x[i][pair]), scale.inverse);
        bits[pair][1] = int8_bits(high_float(x[i][pair]), scale.inverse);
      }
      const uint32_t word = word_of<Tile::kOrder>(bits[0], bits[1]);
      sum = dot_signed(0x01010101, word, sum);
      reinterpret_cast<uint32_t*>(words_)[subblock * kSubblockWords + first_word_ + 2 * i] = word;
    }
    sum += __shfl_xor_sync(0xffffffff, sum, 4);
    const int other = __shfl_xor_sync(0xffffffff, sum, 8);
    if (first_word_ == 0)
      reinterpret_cast<SubblockFactors*>(factors_)[subblock] = Tile::subblock_factors(scale.scale, sum, other);
  }

  const MmaParams& p_;
  std::byte *words_, *factors_;
  int first_word_;  // of the lane's two, which lie two apart
  int subblock_;    // of the lane's, in a tile
  int from_;        // of the sub-block's first column, in a tile's activations
};

// A lane's activations in shared memory.
template <int kTokens>
struct LaneActivationCursor {
  const std::byte *words, *factors;  // of the first token
  int words_stride, factors_stride;  // bytes between tokens

  // At first_tile of n_k_tiles; all_words, all_factors: of all tokens and tiles.
  __device__ LaneActivationCursor(const std::byte* all_words, const std::byte* all_factors, int n_k_tiles,
                                  int first_tile) {
    const int t = threadIdx.x % 4;
    words = all_words + first_tile * kInt8WordsBytes + t * kSubblockCols;
    factors = all_factors + first_tile * kInt8FactorsBytes + t * static_cast<int>(sizeof(SubblockFactors));
    words_stride = n_k_tiles * kInt8WordsBytes;
    factors_stride = n_k_tiles * kInt8FactorsBytes;
  }
  template <int h>
  __device__ void load(LaneActivations (&x)[kTokens]) const {
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
      const auto* from = reinterpret_cast<const Words4*>(words + token * words_stride + 128 * h);
      x[token].word[0] = from[0];
      x[token].word[1] = from[1];
      x[token].factors = *reinterpret_cast<const SubblockFactors*>(factors + token * factors_stride + 64 * h);
    }
  }
  __device__ void advance(int n_tiles) {
    words += n_tiles * kInt8WordsBytes;
    factors += n_tiles * kInt8FactorsBytes;
  }
};

#endif  // __CUDACC__

}  // namespace spate::cuda
