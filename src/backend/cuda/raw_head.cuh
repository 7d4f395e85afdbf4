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

  __device__ __forceinline__ void set(const RawHeads& raw, int position, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      rotation[i] = {1, 0};
      if (pair >= raw.rotary_dim / 2) continue;
      const Rotation r = rotation_at(position, raw.frequencies[pair]);
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
__device__ __forceinline__ void write_query(const float* head, int head_dim, int lane, __half* q) {
  for (int pair = lane; pair < head_dim / 2; pair += 32)
    reinterpret_cast<__half2*>(q)[pair] = saturated_half2(reinterpret_cast<const float2*>(head)[pair]);
}

// A key or value as it is kept. row.at(byte): where a byte of the row goes, neighbours staying neighbours within 16;
// row.scale(block): where the scale of 32 dimensions goes (q8_0).
template <KvType kType, class Row>
__device__ __forceinline__ void write_row(const float* head, int head_dim, int lane, const Row& row) {
  if constexpr (kType == KvType::kQ8_0) {
    for (int first = 0; first < head_dim; first += kKvBlock) {
      const bool exists = first + lane < head_dim;
      const float x = exists ? head[first + lane] : 0.0f;
      const __half scale = __float2half_rn(fminf(__fdiv_rn(warp_max(fabsf(x)), 127.0f), 65504.0f));
      const float step = __half2float(scale);
      const float code = step > 0 ? rintf(fminf(fmaxf(__fdiv_rn(x, step), -127.0f), 127.0f)) : 0.0f;
      if (exists) *reinterpret_cast<int8_t*>(row.at(first + lane)) = static_cast<int8_t>(code);
      if (lane == 0) *row.scale(first / kKvBlock) = scale;
    }
  } else {
    for (int pair = lane; pair < head_dim / 2; pair += 32) {
      const float2 x = reinterpret_cast<const float2*>(head)[pair];
      if constexpr (kType == KvType::kF16)
        *reinterpret_cast<__half2*>(row.at(4 * pair)) = saturated_half2(x);
      else
        *reinterpret_cast<__nv_fp8x2_storage_t*>(row.at(2 * pair)) =
            __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E4M3);
    }
  }
}

}  // namespace spate::cuda
