// A warp's part of attention: 8 or 16 query rows against one page of keys and values in shared memory, with the running
// softmax of FlashAttention-2 (Dao 2023). Scores and results stay in fragments of mma.m16n8k16 (warp_mma.cuh).
//
// Keys are the B operand as they lie. Values are wanted transposed, which ldmatrix does for 16-bit elements; of 8-bit
// ones it transposes pairs of dimensions, so one 16-byte chunk gives a tile of even and a tile of odd dimensions.
// Likewise an 8-bit chunk of keys gives a lane four neighbouring dimensions, where two tiles want pairs: the queries'
// dimensions are taken in the same order, and the products are the same sums.
#pragma once

#include <cuda_fp8.h>

#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/warp_mma.cuh"

namespace spate::cuda {

// Two pairs of float16 of four 8-bit elements: elements 0, 1 and 2, 3 ({0, 2} and {1, 3} with `crossed`).
template <KvType kType, bool crossed>
__device__ __forceinline__ void widen(uint32_t bytes, uint32_t (&halves)[2]) {
  if constexpr (kType == KvType::kQ8_0) {
    // 0x6400 | u is 1024 + u; u is the code plus 128.
    const uint32_t biased = bytes ^ 0x80808080u;
    const __half2 offset = __float2half2_rn(1024.0f + 128.0f);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t pair = __byte_perm(biased, 0x64646464u, crossed ? 0x4240 + 0x0101 * i : 0x4140 + 0x0202 * i);
      const __half2 value = __hsub2(*reinterpret_cast<const __half2*>(&pair), offset);
      halves[i] = *reinterpret_cast<const uint32_t*>(&value);
    }
  } else {
    static_assert(kType == KvType::kFp8);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto pair =
          static_cast<__nv_fp8x2_storage_t>(crossed ? __byte_perm(bytes, 0, 0x4420 + 0x0011 * i) : bytes >> (16 * i));
      const __half2_raw value = __nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3);
      halves[i] = static_cast<uint32_t>(value.x) | static_cast<uint32_t>(value.y) << 16;
    }
  }
}

__device__ __forceinline__ uint32_t multiply_half2(uint32_t a, uint32_t b) {
  const __half2 product = __hmul2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

// Fragments of a plane (kv_pool.h) in shared memory.
template <KvType kType, int kDim>
class PlaneReader {
 public:
  static constexpr int kRowBytes = kv_row_bytes(kType, kDim);

  __device__ explicit PlaneReader(int lane) : lane_(lane) {
    const int matrix = lane / 8, row = lane % 8;
    const uint32_t swizzle = kv_chunk(kRowBytes, row, 0);
    if constexpr (kType == KvType::kF16) {
      key_row_ = (matrix / 2 * 8 + row) * kRowBytes;
      key_chunk_ = (matrix % 2 ^ swizzle) * kKvChunkBytes;
      value_row_ = (matrix % 2 * 8 + row) * kRowBytes;
      value_chunk_ = (matrix / 2 ^ swizzle) * kKvChunkBytes;
    } else {
      key_row_ = value_row_ = lane * kRowBytes;
      key_chunk_ = value_chunk_ = swizzle * kKvChunkBytes;
    }
  }

  // B operands of dimensions [16 step, 16 step + 16) for the page's four tiles of 8 tokens.
  __device__ __forceinline__ void keys(uint32_t plane, int step, uint32_t (&b)[4][2]) const {
    uint32_t m[4];
    if constexpr (kType == KvType::kF16) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        load_matrices(m, plane + key_row_ + 16 * half * kRowBytes + (32 * step ^ key_chunk_));
        b[2 * half][0] = m[0];
        b[2 * half][1] = m[1];
        b[2 * half + 1][0] = m[2];
        b[2 * half + 1][1] = m[3];
      }
    } else {
      load_matrices(m, plane + key_row_ + (16 * step ^ key_chunk_));
#pragma unroll
      for (int tile = 0; tile < 4; ++tile) {
        widen<kType, false>(m[tile], b[tile]);
        if constexpr (kType == KvType::kQ8_0) {
          const uint32_t scale =
              load_shared_16_twice(plane + kv_scales_offset(kDim) + 2 * kv_scale_index(8 * tile + lane_ / 4, step / 2));
          b[tile][0] = multiply_half2(b[tile][0], scale);
          b[tile][1] = multiply_half2(b[tile][1], scale);
        }
      }
    }
  }

  // B operands of two tiles of 8 dimensions, of [16 pair, 16 pair + 16), for tokens [16 k, 16 k + 16): b[k][tile].
  __device__ __forceinline__ void values(uint32_t plane, int pair, uint32_t (&b)[2][2][2]) const {
    uint32_t m[4];
    if constexpr (kType == KvType::kF16) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        load_matrices_transposed(m, plane + value_row_ + 16 * k * kRowBytes + (32 * pair ^ value_chunk_));
        b[k][0][0] = m[0];
        b[k][0][1] = m[1];
        b[k][1][0] = m[2];
        b[k][1][1] = m[3];
      }
    } else {
      load_matrices_transposed(m, plane + value_row_ + (16 * pair ^ value_chunk_));
#pragma unroll
      for (int octet = 0; octet < 4; ++octet) {
        uint32_t tiles[2];
        widen<kType, true>(m[octet], tiles);
        if constexpr (kType == KvType::kQ8_0) {
          const int token = 8 * octet + lane_ % 4 * 2;
          const uint32_t scales = load_shared_32(plane + kv_scales_offset(kDim) + 2 * kv_scale_index(token, pair / 2));
          tiles[0] = multiply_half2(tiles[0], scales);
          tiles[1] = multiply_half2(tiles[1], scales);
        }
        b[octet / 2][0][octet % 2] = tiles[0];
        b[octet / 2][1][octet % 2] = tiles[1];
      }
    }
  }

 private:
  int lane_;
  uint32_t key_row_, key_chunk_, value_row_, value_chunk_;
};

// Makes tokens from n_valid on count for nothing in a plane of values: whatever bits a page holds beyond a sequence's
// end, NaNs too, must not meet the zero weights. `threads` threads do it together; they synchronise afterwards.
template <KvType kType, int kDim>
__device__ __forceinline__ void clear_tail(std::byte* plane, int n_valid, int thread, int threads) {
  constexpr int kRowBytes = kv_row_bytes(kType, kDim);
  for (int at = n_valid * kRowBytes + thread * 16; at < kPageTokens * kRowBytes; at += threads * 16)
    *reinterpret_cast<uint4*>(plane + at) = make_uint4(0, 0, 0, 0);
  if constexpr (kType == KvType::kQ8_0) {
    auto* scales = reinterpret_cast<__half*>(plane + kv_scales_offset(kDim));
    constexpr int kBlocks = (kDim + kKvBlock - 1) / kKvBlock;
    for (int i = thread; i < kBlocks * kPageTokens; i += threads)
      if (i % kPageTokens >= n_valid) scales[i] = __ushort_as_half(0);
  }
}

// The rows of a warp: queries, results so far, and the softmax's state. kRegs: 2 for 8 rows, 4 for 16; index i counts
// the lane's rows, g and g + 8.
template <KvType kType, int kDim, int kRegs>
struct WarpRows {
  static constexpr int kLaneRows = kRegs / 2;
  static constexpr bool kQueriesStay = kDim <= 128;  // in registers; else they are read again for each page, from L1

  const __half* query[kLaneRows];  // of the lane's rows, at its column; null: a row that is none
  uint32_t q[kQueriesStay ? kDim / 16 : 1][kRegs];
  float o[kDim / 8][kRegs];
  float m[kLaneRows];    // maxima of the scores, before scaling
  float l[kLaneRows];    // sums of this lane's weights
  int limit[kLaneRows];  // positions below it are seen

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      m[i] = -INFINITY;
      l[i] = 0;
    }
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile)
#pragma unroll
      for (int r = 0; r < kRegs; ++r) o[tile][r] = 0;
  }

  // rows[i]: the lane's row i of the queries, or null.
  __device__ __forceinline__ void set_queries(const __half* const (&rows)[kLaneRows], int lane) {
    const int column = kType == KvType::kF16 ? lane % 4 * 2 : lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) query[i] = rows[i] == nullptr ? nullptr : rows[i] + column;
    if constexpr (kQueriesStay) {
#pragma unroll
      for (int step = 0; step < kDim / 16; ++step) load_query(step, q[step]);
    }
  }

  __device__ __forceinline__ void load_query(int step, uint32_t (&a)[kRegs]) const {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      constexpr int kSecond = kType == KvType::kF16 ? 8 : 2;  // from the first pair of columns to the second
      const __half* from = query[i] + 16 * step;
      const bool exists = query[i] != nullptr;
      a[i] = exists ? *reinterpret_cast<const uint32_t*>(from) : 0;
      a[kLaneRows + i] = exists ? *reinterpret_cast<const uint32_t*>(from + kSecond) : 0;
    }
  }

  // s = q k^T for the page's 32 tokens. kUnrolled: steps at once; where queries are read again for each page, all of
  // them on their way together may take more registers than there are.
  template <int kUnrolled = kDim / 16>
  __device__ __forceinline__ void scores(const PlaneReader<kType, kDim>& reader, uint32_t keys, float (&s)[4][kRegs]) {
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int r = 0; r < kRegs; ++r) s[tile][r] = 0;
#pragma unroll kUnrolled
    for (int step = 0; step < kDim / 16; ++step) {
      if constexpr (!kQueriesStay) load_query(step, q[0]);
      uint32_t b[4][2];
      reader.keys(keys, step, b);
#pragma unroll
      for (int tile = 0; tile < 4; ++tile) multiply_add(s[tile], q[kQueriesStay ? step : 0], b[tile][0], b[tile][1]);
    }
  }

  // Hides tokens at limit[i] and beyond; `position` is that of the page's first token.
  __device__ __forceinline__ void mask(float (&s)[4][kRegs], int position, int lane) const {
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int r = 0; r < kRegs; ++r)
        if (position + 8 * tile + lane % 4 * 2 + r % 2 >= limit[r / 2]) s[tile][r] = -INFINITY;
  }

  // Turns scores into weights relative to the new maximum, and brings what was summed before to it.
  template <int kPages>
  __device__ __forceinline__ void softmax(float (&s)[kPages][4][kRegs], float scale_log2) {
    float rescale[kLaneRows];
    bool changed = false;
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      float top = m[i];
#pragma unroll
      for (int page = 0; page < kPages; ++page)
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) top = fmaxf(top, fmaxf(s[page][tile][2 * i], s[page][tile][2 * i + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      // A row that has seen nothing yet keeps weights of zero.
      const float base = top == -INFINITY ? 0.0f : top * scale_log2;
      rescale[i] = exp2_approx(m[i] * scale_log2 - base);
      changed |= top != m[i];
      m[i] = top;
      float sum = 0;
#pragma unroll
      for (int page = 0; page < kPages; ++page)
#pragma unroll
        for (int tile = 0; tile < 4; ++tile)
#pragma unroll
          for (int e = 2 * i; e < 2 * i + 2; ++e) {
            s[page][tile][e] = exp2_approx(fmaf(s[page][tile][e], scale_log2, -base));
            sum += s[page][tile][e];
          }
      l[i] = l[i] * rescale[i] + sum;
    }
    if (__any_sync(0xffffffffu, changed)) {
#pragma unroll
      for (int tile = 0; tile < kDim / 8; ++tile)
#pragma unroll
        for (int r = 0; r < kRegs; ++r) o[tile][r] *= rescale[r / 2];
    }
  }

  // o += weights v for the page's 32 tokens.
  __device__ __forceinline__ void accumulate(const PlaneReader<kType, kDim>& reader, uint32_t values,
                                             const float (&s)[4][kRegs]) {
    uint32_t p[2][kRegs];
#pragma unroll
    for (int k = 0; k < 2; ++k)
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) {
        p[k][i] = pack_half2(s[2 * k][2 * i], s[2 * k][2 * i + 1]);
        p[k][kLaneRows + i] = pack_half2(s[2 * k + 1][2 * i], s[2 * k + 1][2 * i + 1]);
      }
#pragma unroll
    for (int pair = 0; pair < kDim / 16; ++pair) {
      uint32_t b[2][2][2];
      reader.values(values, pair, b);
#pragma unroll
      for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) multiply_add(o[2 * pair + tile], p[k], b[k][tile][0], b[k][tile][1]);
    }
  }

  // Sums l over the four lanes of a row. Once, after the last page.
  __device__ __forceinline__ void finish_sums() {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      l[i] += __shfl_xor_sync(0xffffffffu, l[i], 1);
      l[i] += __shfl_xor_sync(0xffffffffu, l[i], 2);
    }
  }

  // Calls store(dimension, first, second) for the lane's results of row i, two neighbouring dimensions at a time.
  template <typename Store>
  __device__ __forceinline__ void for_pairs(int i, int lane, const Store& store) const {
#pragma unroll
    for (int pair = 0; pair < kDim / 16; ++pair) {
      const float* first = &o[2 * pair][2 * i];
      const float* second = &o[2 * pair + 1][2 * i];
      if constexpr (kType == KvType::kF16) {
        store(16 * pair + lane % 4 * 2, first[0], first[1]);
        store(16 * pair + 8 + lane % 4 * 2, second[0], second[1]);
      } else {
        store(16 * pair + lane % 4 * 4, first[0], second[0]);
        store(16 * pair + lane % 4 * 4 + 2, first[1], second[1]);
      }
    }
  }
};

}  // namespace spate::cuda
