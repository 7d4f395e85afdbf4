// A head of a token on its way from the QKV product to attention: bias, QK-norm, rotary embedding, and the form in
// which keys and values are kept. A warp a head; the head lies in shared memory while its pairs, which may be half a
// head apart, are rotated.
//
// Additions to products are fused by name or not at all, never as a compiler sees fit.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/ops.h"

namespace spate::cuda {

inline constexpr int kMaxHeadDim = 256;

// Pairs of neighbouring dimensions that a lane has of a head: pair lane + 32 i.
constexpr int lane_pairs(int head_dim) {
  return (head_dim / 2 + 31) / 32;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// Where a head stands among the queries, then the keys, then the values of a token.
struct HeadRole {
  bool is_query, is_key;
  const float* bias;  // [head_dim] or null
  const float* norm;  // [head_dim] or null

  __device__ __forceinline__ HeadRole(const RawHeads& raw, int n_heads, int n_kv_heads, int head_dim, int index)
      : is_query(index < n_heads),
        is_key(!is_query && index < n_heads + n_kv_heads),
        bias(raw.bias == nullptr ? nullptr : raw.bias + index * head_dim),
        norm(is_query ? raw.q_norm
             : is_key ? raw.k_norm
                      : nullptr) {}
  __device__ __forceinline__ bool is_rotated() const { return is_query || is_key; }
};

// cos and sin of position * frequency. The angle in double precision, taken to (-1/2, 1/2] turns: at position 10^6
// float32 would be off by 0.06 radians.
struct Rotation {
  float cos, sin;
};
__device__ __forceinline__ Rotation rotation_at(int position, float frequency) {
  constexpr double kTurnsPerRadian = 0.15915494309189533577;
  const double turns =
      __dmul_rn(__dmul_rn(static_cast<double>(position), static_cast<double>(frequency)), kTurnsPerRadian);
  Rotation r;
  sincospif(2 * static_cast<float>(turns - rint(turns)), &r.sin, &r.cos);
  return r;
}

// Angles and weights come from the model and the step's plan, so that a warp can have them before it waits for the
// product.

// Of the rotary pairs of any head of a token, times the magnitude.
template <int kPairs>
struct Angles {
  Rotation rotation[kPairs];

  // frequencies: raw's, or a copy of them.
  __device__ __forceinline__ void set(const RawHeads& raw, const float* frequencies, int position, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      rotation[i] = {1, 0};
      if (pair >= raw.rotary_dim / 2) continue;
      const Rotation r = rotation_at(position, frequencies[pair]);
      rotation[i] = {r.cos * raw.magnitude, r.sin * raw.magnitude};
    }
  }
};

// What a lane has of a head's bias and norm.
template <int kPairs>
struct HeadWeights {
  float2 bias[kPairs], norm[kPairs];

  __device__ __forceinline__ void set(const HeadRole& role, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      const bool exists = pair < head_dim / 2;
      bias[i] = exists && role.bias != nullptr ? float2{role.bias[2 * pair], role.bias[2 * pair + 1]} : float2{0, 0};
      norm[i] = exists && role.norm != nullptr ? float2{role.norm[2 * pair], role.norm[2 * pair + 1]} : float2{1, 1};
    }
  }
};

// What a lane has of a head.
template <int kPairs>
struct HeadValues {
  float2 x[kPairs];

  // from: the head in the product, [head_dim].
  __device__ __forceinline__ void load(const float* from, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      x[i] = pair < head_dim / 2 ? reinterpret_cast<const float2*>(from)[pair] : float2{0, 0};
    }
  }

  // By a factor for each dimension, then by one for all of them; never fused with what is added later.
  template <typename Factor>
  __device__ __forceinline__ void multiply(const Factor& of_dimension, float of_all, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      if (pair >= head_dim / 2) continue;
      x[i].x = __fmul_rn(__fmul_rn(x[i].x, of_dimension(2 * pair)), of_all);
      x[i].y = __fmul_rn(__fmul_rn(x[i].y, of_dimension(2 * pair + 1)), of_all);
    }
  }

  // To `head` in shared memory, [head_dim], with bias and, where there is a norm, RMSNorm applied.
  __device__ __forceinline__ void place(const HeadWeights<kPairs>& weights, bool has_norm, float epsilon, int head_dim,
                                        int lane, float* head) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      x[i].x += weights.bias[i].x;
      x[i].y += weights.bias[i].y;
      squares = __fmaf_rn(x[i].x, x[i].x, __fmaf_rn(x[i].y, x[i].y, squares));
    }
    const float scale =
        has_norm ? rsqrtf(__fadd_rn(__fdiv_rn(warp_sum(squares), static_cast<float>(head_dim)), epsilon)) : 1.0f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      if (pair < head_dim / 2)
        reinterpret_cast<float2*>(head)[pair] = {x[i].x * scale * weights.norm[i].x,
                                                 x[i].y * scale * weights.norm[i].y};
    }
    __syncwarp();
  }
};

template <int kPairs>
__device__ __forceinline__ void rotate_head(const RawHeads& raw, const Angles<kPairs>& angles, int lane, float* head) {
  const int n_pairs = raw.rotary_dim / 2;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair >= n_pairs) continue;
    const int first = raw.style == RopeStyle::kNorm ? 2 * pair : pair;
    const int second = raw.style == RopeStyle::kNorm ? first + 1 : first + n_pairs;
    const float c = angles.rotation[i].cos, s = angles.rotation[i].sin;
    const float a = head[first], b = head[second];
    head[first] = __fmaf_rn(a, c, -__fmul_rn(b, s));
    head[second] = __fmaf_rn(a, s, __fmul_rn(b, c));
  }
  __syncwarp();
}

// What float16 holds, so that one outlier does not turn a sequence's attention into NaNs.
__device__ __forceinline__ __half2 saturated_half2(float2 v) {
  constexpr float kLargest = 65504.0f;
  return __floats2half2_rn(fminf(fmaxf(v.x, -kLargest), kLargest), fminf(fmaxf(v.y, -kLargest), kLargest));
}

// A query as attention takes it: q[head_dim].
template <int kPairs>
__device__ __forceinline__ void write_query(const float* head, int head_dim, int lane, __half* q) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair >= head_dim / 2) continue;
    reinterpret_cast<__half2*>(q)[pair] = saturated_half2(reinterpret_cast<const float2*>(head)[pair]);
  }
}

// A key or value as it is kept. row.at(byte): where a byte of the row goes, neighbours staying neighbours within 16;
// row.scale(block): where the scale of 32 dimensions goes (q8_0).
template <KvType kType, int kPairs, class Row>
__device__ __forceinline__ void write_row(const float* head, int head_dim, int lane, const Row& row) {
  if constexpr (kType == KvType::kQ8_0) {
#pragma unroll
    for (int block = 0; block < 2 * kPairs; ++block) {
      const int d = block * kKvBlock + lane;
      if (block * kKvBlock >= head_dim) break;
      const bool exists = d < head_dim;
      const float x = exists ? head[d] : 0.0f;
      const __half scale = __float2half_rn(fminf(__fdiv_rn(warp_max(fabsf(x)), 127.0f), 65504.0f));
      const float step = __half2float(scale);
      const float code = step > 0 ? rintf(fminf(fmaxf(__fdiv_rn(x, step), -127.0f), 127.0f)) : 0.0f;
      if (exists) *reinterpret_cast<int8_t*>(row.at(d)) = static_cast<int8_t>(code);
      if (lane == 0) *row.scale(block) = scale;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      if (pair >= head_dim / 2) continue;
      const float2 x = reinterpret_cast<const float2*>(head)[pair];
      if constexpr (kType == KvType::kF16)
        *reinterpret_cast<__half2*>(row.at(4 * pair)) = saturated_half2(x);
      else
        *reinterpret_cast<__nv_fp8x2_storage_t*>(row.at(2 * pair)) =
            __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E4M3);
    }
  }
}

// Where a token stands in its sequence, and the page of its keys and values.
struct TokenPlace {
  int position, page;  // page -1: padding, of which nothing is written

  // Of the step's plan, which is there before its first kernel.
  __device__ __forceinline__ static TokenPlace of(const DeviceBatch& batch, int token) {
    if (token >= *batch.n_tokens_real) return {0, -1};
    const int seq = batch.seq_of[token];
    if (seq < 0) return {0, -1};
    const int position = batch.positions[token];
    return {position, batch.pages[batch.page_start[seq] + position / kPageTokens]};
  }
  __device__ __forceinline__ bool exists() const { return page >= 0; }
};

// A token's row in a plane (kv_pool.h).
struct PlaneRow {
  std::byte* plane;
  int row_bytes, head_dim, token;

  __device__ __forceinline__ std::byte* at(int byte) const {
    return plane + token * row_bytes + 16 * kv_chunk(row_bytes, token, byte / 16) + byte % 16;
  }
  __device__ __forceinline__ __half* scale(int block) const {
    return reinterpret_cast<__half*>(plane + kv_scales_offset(head_dim)) + kv_scale_index(token, block);
  }
};

// Writes a finished head, the token's index-th of queries, keys and values, to where it belongs.
template <KvType kType, int kPairs>
__device__ __forceinline__ void write_head(const RopeKvArgs& args, const HeadRole& role, int index, int token,
                                           const TokenPlace& place, int lane, const float* head) {
  const int head_dim = args.head_dim;
  if (role.is_query) {
    write_query<kPairs>(head, head_dim, lane, args.q + (static_cast<int64_t>(token) * args.n_heads + index) * head_dim);
    return;
  }
  const int kv_head = role.is_key ? index - args.n_heads : index - args.n_heads - args.n_kv_heads;
  std::byte* plane = args.kv.pages + place.page * args.kv.page_bytes +
                     (2 * kv_head + (role.is_key ? 0 : 1)) * kv_plane_bytes(kType, head_dim);
  write_row<kType, kPairs>(head, head_dim, lane,
                           PlaneRow{.plane = plane,
                                    .row_bytes = kv_row_bytes(kType, head_dim),
                                    .head_dim = head_dim,
                                    .token = place.position % kPageTokens});
}

}  // namespace spate::cuda
