// A head of a token on its way from the QKV product to attention: bias, QK-norm, rotary embedding, and the form in
// which keys and values are kept. A warp a head, in its lanes' registers; where the two dimensions of a rotary pair are
// of different lanes, the head goes through shared memory.
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
// Of 16 lanes, which have the 32 dimensions of a block.
__device__ __forceinline__ float half_warp_max(float value) {
  static_assert(kKvBlock == 32);
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// Where a head stands among the queries, then the keys, then the values of a token.
struct HeadRole {
  bool is_query, is_key;
  const float* bias;  // [head_dim] or null
  const float* norm;  // [head_dim] or null

  __device__ __forceinline__ HeadRole(const RawHeads& raw, int n_heads, int n_kv_heads, int head_dim, int index)
      : is_query(index < n_heads), is_key(!is_query && index < n_heads + n_kv_heads) {
    // Selected, not branched to: loads of a warp that a branch parts are waited for all together.
    const float *q_norm = raw.q_norm, *k_norm = raw.k_norm;
    bias = raw.bias == nullptr ? nullptr : raw.bias + index * head_dim;
    norm = is_key ? k_norm : nullptr;
    norm = is_query ? q_norm : norm;
  }
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

// Whether rotary pairs are dimensions of the same lane although half a head apart: dimension d and d + 32 kPairs.
template <int kPairs>
__device__ __forceinline__ bool lanes_have_halves(const RawHeads& raw) {
  return kPairs % 2 == 0 && raw.style == RopeStyle::kNeox && raw.rotary_dim == 64 * kPairs;
}

// Angles and weights come from the model and the step's plan, so that a warp can ask for them before it waits for the
// product.

// Frequencies of the rotary pairs that a lane turns.
template <int kPairs>
struct Frequencies {
  float frequency[kPairs];

  __device__ __forceinline__ void load(const RawHeads& raw, int lane) {
    const bool halves = lanes_have_halves<kPairs>(raw);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = halves ? 64 * (i / 2) + 2 * lane + i % 2 : lane + 32 * i;
      frequency[i] = pair < raw.rotary_dim / 2 ? raw.frequencies[pair] : 0.0f;
    }
  }
};

// cos and sin of these pairs for any head of a token, times the magnitude.
template <int kPairs>
struct Angles {
  Rotation rotation[kPairs];

  __device__ __forceinline__ void set(const Frequencies<kPairs>& from, float magnitude, int position) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const Rotation r = rotation_at(position, from.frequency[i]);
      rotation[i] = {r.cos * magnitude, r.sin * magnitude};
    }
  }
};

// Turns a pair.
__device__ __forceinline__ void rotate(const Rotation& by, float& first, float& second) {
  const float a = first, b = second;
  first = __fmaf_rn(a, by.cos, -__fmul_rn(b, by.sin));
  second = __fmaf_rn(a, by.sin, __fmul_rn(b, by.cos));
}

// What a lane has of a head's bias and norm.
template <int kPairs>
struct HeadWeights {
  float2 bias[kPairs], norm[kPairs];

  __device__ __forceinline__ void load(const HeadRole& role, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      const bool exists = pair < head_dim / 2;
      bias[i] = exists && role.bias != nullptr ? reinterpret_cast<const float2*>(role.bias)[pair] : float2{0, 0};
      norm[i] = exists && role.norm != nullptr ? reinterpret_cast<const float2*>(role.norm)[pair] : float2{1, 1};
    }
  }
};

// What a lane has of a head: pairs of neighbours lane + 32 i; beyond the head zeros.
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

  // Bias and, where there is a norm, RMSNorm.
  __device__ __forceinline__ void normalise(const HeadWeights<kPairs>& weights, bool has_norm, float epsilon,
                                            int head_dim, int lane) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      x[i].x += weights.bias[i].x;
      x[i].y += weights.bias[i].y;
      squares = __fmaf_rn(x[i].x, x[i].x, __fmaf_rn(x[i].y, x[i].y, squares));
    }
    if (!has_norm) return;
    const float scale = rsqrtf(__fadd_rn(__fdiv_rn(warp_sum(squares), static_cast<float>(head_dim)), epsilon));
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      if (lane + 32 * i < head_dim / 2) x[i] = {x[i].x * scale * weights.norm[i].x, x[i].y * scale * weights.norm[i].y};
  }

  // head: [64 kPairs] shared memory of the warp.
  __device__ __forceinline__ void rotate_pairs(const RawHeads& raw, const Angles<kPairs>& angles, int lane,
                                               float* head) {
    const int n_pairs = raw.rotary_dim / 2;
    if (raw.style == RopeStyle::kNorm) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i)
        if (lane + 32 * i < n_pairs) rotate(angles.rotation[i], x[i].x, x[i].y);
    } else if (lanes_have_halves<kPairs>(raw)) {
#pragma unroll
      for (int i = 0; i < kPairs / 2; ++i) {
        rotate(angles.rotation[2 * i], x[i].x, x[i + kPairs / 2].x);
        rotate(angles.rotation[2 * i + 1], x[i].y, x[i + kPairs / 2].y);
      }
    } else {
      rotate_in_shared(n_pairs, angles, lane, head);
    }
  }

 private:
  __device__ __forceinline__ void rotate_in_shared(int n_pairs, const Angles<kPairs>& angles, int lane, float* head) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) reinterpret_cast<float2*>(head)[lane + 32 * i] = x[i];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      if (pair < n_pairs) rotate(angles.rotation[i], head[pair], head[pair + n_pairs]);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPairs; ++i) x[i] = reinterpret_cast<const float2*>(head)[lane + 32 * i];
  }
};

// What float16 holds, so that one outlier does not turn a sequence's attention into NaNs.
__device__ __forceinline__ __half2 saturated_half2(float2 v) {
  constexpr float kLargest = 65504.0f;
  return __floats2half2_rn(fminf(fmaxf(v.x, -kLargest), kLargest), fminf(fmaxf(v.y, -kLargest), kLargest));
}

// Where a head of a token is written: a query, or a row of a plane (kv_pool.h).
struct HeadRow {
  std::byte* row;
  int swizzle_bytes = 0;     // XORed to places in the row
  __half* scales = nullptr;  // q8_0: the token's, of the first block

  __device__ __forceinline__ std::byte* at(int byte) const { return row + (byte ^ swizzle_bytes); }
  __device__ __forceinline__ __half* scale(int block) const { return scales + kv_scale_index(0, block); }
};

__device__ __forceinline__ HeadRow plane_row(std::byte* plane, KvType type, int head_dim, int token) {
  const int row_bytes = kv_row_bytes(type, head_dim);
  return {.row = plane + token * row_bytes,
          .swizzle_bytes = kKvChunkBytes * kv_chunk(row_bytes, token, 0),
          .scales = reinterpret_cast<__half*>(plane + kv_scales_offset(head_dim)) + kv_scale_index(token, 0)};
}

__device__ __forceinline__ int8_t q8_0_code(float x, float step) {
  return static_cast<int8_t>(step > 0 ? rintf(fminf(fmaxf(__fdiv_rn(x, step), -127.0f), 127.0f)) : 0.0f);
}

// kF16: also a query as attention takes it.
template <KvType kType, int kPairs>
__device__ __forceinline__ void write_head(const HeadValues<kPairs>& head, int head_dim, int lane, const HeadRow& to) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int pair = lane + 32 * i;
    const bool exists = pair < head_dim / 2;
    const float2 x = head.x[i];
    if constexpr (kType == KvType::kQ8_0) {
      const float largest = half_warp_max(fmaxf(fabsf(x.x), fabsf(x.y)));
      const __half scale = __float2half_rn(fminf(__fdiv_rn(largest, 127.0f), 65504.0f));
      const float step = __half2float(scale);
      if (!exists) continue;
      *reinterpret_cast<char2*>(to.at(2 * pair)) = {q8_0_code(x.x, step), q8_0_code(x.y, step)};
      if (lane % 16 == 0) *to.scale(2 * pair / kKvBlock) = scale;
    } else if (exists) {
      if constexpr (kType == KvType::kF16)
        *reinterpret_cast<__half2*>(to.at(4 * pair)) = saturated_half2(x);
      else
        *reinterpret_cast<__nv_fp8x2_storage_t*>(to.at(2 * pair)) =
            __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E4M3);
    }
  }
}

}  // namespace spate::cuda
