// A CTA's activations on their way from float16 to integers in shared memory (int8_activations.h).
#pragma once

#include "backend/cuda/int8_activations.h"
#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

#ifdef __CUDACC__

// Turns activations into integers. A warp takes 256 columns of a token at a time; lane l has eight columns of sub-block
// 4 (l / 16) + l % 4, two words of their bytes. Neighbouring pairs of lanes read 32 bytes together.
//
// Rows: where the integers go. kOrder of their words; word_at(token, tile, subblock, v), where word v of a sub-block
// lies; store_factors(token, tile, subblock, scale, sum0, sum1), with the sums of its first and its second 16 integers.
template <class Rows>
class ActivationQuantiser {
 public:
  __device__ ActivationQuantiser(const MmaParams& p, const Rows& rows) : p_(p), rows_(rows) {
    const int lane = threadIdx.x % 32, t = lane % 4;
    first_word_ = lane / 8 % 2 * 4 + lane / 4 % 2;
    subblock_ = lane / 16 * 4 + t;
    from_ = lane / 16 * 128 + 2 * t;
  }

  // Quantises warp `warp`'s share of n_warps; kAtOnce: units whose loads are under way together. Calls asked() once the
  // first have been asked for.
  template <int kAtOnce, typename Asked>
  __device__ void run(int warp, int n_warps, Asked&& asked) const {
    Unit unit{0, warp};
    settle(unit);
    if (unit.token >= p_.n_tokens) return asked();
    bool is_first = true;
    while (unit.token < p_.n_tokens) {
      Unit units[kAtOnce];
      uint32_t x[kAtOnce][2][2];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        units[i] = unit;
        if (unit.token < p_.n_tokens) load(unit, x[i]);
        unit.tile += n_warps;
        settle(unit);
      }
      if (is_first) asked();
      is_first = false;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (units[i].token < p_.n_tokens) quantise(units[i], x[i]);
    }
  }

 private:
  struct Unit {
    int token, tile;
  };

  __device__ void settle(Unit& unit) const {
    for (; unit.tile >= p_.n_k_tiles; unit.tile -= p_.n_k_tiles) ++unit.token;
  }

  // The lane's four pairs of columns: of two words, the first and the second pair.
  __device__ void load(const Unit& unit, uint32_t (&x)[2][2]) const {
    const __half* from = p_.x + int64_t{unit.token} * p_.x_stride + unit.tile * kTileCols + from_;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        x[i][pair] =
            __ldcg(reinterpret_cast<const unsigned*>(from + 8 * pair_of_word(Rows::kOrder, first_word_ + 2 * i, pair)));
    }
  }

  __device__ void quantise(const Unit& unit, const uint32_t (&x)[2][2]) const {
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
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t bits[2][2];
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        bits[pair][0] = int8_bits(low_float(x[i][pair]), scale.inverse);
        bits[pair][1] = int8_bits(high_float(x[i][pair]), scale.inverse);
      }
      const uint32_t word = word_of<Rows::kOrder>(bits[0], bits[1]);
      sum = dot_signed(0x01010101, word, sum);
      *rows_.word_at(unit.token, unit.tile, subblock_, first_word_ + 2 * i) = word;
    }
    sum += __shfl_xor_sync(0xffffffff, sum, 4);
    const int other = __shfl_xor_sync(0xffffffff, sum, 8);
    if (first_word_ == 0) rows_.store_factors(unit.token, unit.tile, subblock_, scale.scale, sum, other);
  }

  const MmaParams& p_;
  const Rows& rows_;
  int first_word_;  // of the lane's two, which lie two apart
  int subblock_;    // of the lane's, in a tile
  int from_;        // of the sub-block's first column, in a tile's activations
};

#endif  // __CUDACC__

}  // namespace spate::cuda
