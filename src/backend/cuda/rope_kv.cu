// What follows the QKV product: bias, QK-norm, rotary embedding, and keys and values into their pages. A warp a head of
// a token; the head lies in shared memory while its pairs, which may be half a head apart, are rotated.
#include <cuda_fp8.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/ops.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 256;
constexpr int kMaxPairs = kMaxHeadDim / 2 / 32;  // a lane

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

// cos and sin of position * frequency. The angle in double precision, taken to (-1/2, 1/2] turns: at position 10^6
// float32 would be off by 0.06 radians.
struct Rotation {
  float cos, sin;
};
__device__ __forceinline__ Rotation rotation_at(int position, float frequency) {
  constexpr double kTurnsPerRadian = 0.15915494309189533577;
  const double turns = static_cast<double>(position) * static_cast<double>(frequency) * kTurnsPerRadian;
  Rotation r;
  sincospif(2 * static_cast<float>(turns - rint(turns)), &r.sin, &r.cos);
  return r;
}

// What a lane needs beside the product itself. None of it comes from the kernel before this one, so a warp's first is
// read, and the angles are worked out, before waiting for that.

// Of rotary pair lane + 32 i of any head of a token, times the magnitude.
struct Angles {
  Rotation rotation[kMaxPairs];

  __device__ __forceinline__ Angles(const RopeKvArgs& args, int position, int lane) {
#pragma unroll
    for (int i = 0; i < kMaxPairs; ++i) {
      const int pair = lane + 32 * i;
      rotation[i] = {1, 0};
      if (pair >= args.rotary_dim / 2) continue;
      const Rotation r = rotation_at(position, args.frequencies[pair]);
      rotation[i] = {r.cos * args.magnitude, r.sin * args.magnitude};
    }
  }
};

// Of pair lane + 32 i of neighbouring elements of a head.
struct HeadWeights {
  float2 bias[kMaxPairs], norm[kMaxPairs];

  // bias_from, norm_from: [head_dim] or null.
  __device__ __forceinline__ HeadWeights(const float* bias_from, const float* norm_from, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kMaxPairs; ++i) {
      const int pair = lane + 32 * i;
      const bool exists = pair < head_dim / 2;
      bias[i] = exists && bias_from != nullptr ? float2{bias_from[2 * pair], bias_from[2 * pair + 1]} : float2{0, 0};
      norm[i] = exists && norm_from != nullptr ? float2{norm_from[2 * pair], norm_from[2 * pair + 1]} : float2{1, 1};
    }
  }
};

// Reads a head of the product to `head` (shared memory), with bias and, where there is a norm, RMSNorm applied.
__device__ __forceinline__ void load_head(const RopeKvArgs& args, const float* from, const HeadWeights& weights,
                                          bool has_norm, int lane, float* head) {
  float2 x[kMaxPairs];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    x[i] = pair < args.head_dim / 2 ? reinterpret_cast<const float2*>(from)[pair] : float2{0, 0};
    x[i].x += weights.bias[i].x;
    x[i].y += weights.bias[i].y;
    squares += x[i].x * x[i].x + x[i].y * x[i].y;
  }
  const float scale =
      has_norm ? rsqrtf(warp_sum(squares) / static_cast<float>(args.head_dim) + args.norm_epsilon) : 1.0f;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair < args.head_dim / 2)
      reinterpret_cast<float2*>(head)[pair] = {x[i].x * scale * weights.norm[i].x, x[i].y * scale * weights.norm[i].y};
  }
  __syncwarp();
}

__device__ __forceinline__ void rotate_head(const RopeKvArgs& args, const Angles& angles, int lane, float* head) {
  const int n_pairs = args.rotary_dim / 2;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair >= n_pairs) continue;
    const int first = args.style == RopeStyle::kNorm ? 2 * pair : pair;
    const int second = args.style == RopeStyle::kNorm ? first + 1 : first + n_pairs;
    const float c = angles.rotation[i].cos, s = angles.rotation[i].sin;
    const float a = head[first], b = head[second];
    head[first] = a * c - b * s;
    head[second] = a * s + b * c;
  }
  __syncwarp();
}

// What float16 holds, so that one outlier does not turn a sequence's attention into NaNs.
__device__ __forceinline__ __half2 saturated_half2(float2 v) {
  constexpr float kLargest = 65504.0f;
  return __floats2half2_rn(fminf(fmaxf(v.x, -kLargest), kLargest), fminf(fmaxf(v.y, -kLargest), kLargest));
}

// One token's row of a plane in a page.
template <KvType kType>
__device__ __forceinline__ void write_row(const float* head, int head_dim, std::byte* plane, int token, int lane) {
  const int row_bytes = kv_row_bytes(kType, head_dim);
  std::byte* row = plane + token * row_bytes;
  const auto place = [&](int byte) { return row + 16 * kv_chunk(row_bytes, token, byte / 16) + byte % 16; };
  if constexpr (kType == KvType::kQ8_0) {
    auto* scales = reinterpret_cast<__half*>(plane + kv_scales_offset(head_dim));
    for (int first = 0; first < head_dim; first += kKvBlock) {
      const bool exists = first + lane < head_dim;
      const float x = exists ? head[first + lane] : 0.0f;
      const __half scale = __float2half_rn(fminf(warp_max(fabsf(x)) / 127, 65504.0f));
      const float step = __half2float(scale);
      const float code = step > 0 ? rintf(fminf(fmaxf(x / step, -127.0f), 127.0f)) : 0.0f;
      if (exists) *reinterpret_cast<int8_t*>(place(first + lane)) = static_cast<int8_t>(code);
      if (lane == 0) scales[kv_scale_index(token, first / kKvBlock)] = scale;
    }
  } else {
    for (int pair = lane; pair < head_dim / 2; pair += 32) {
      const float2 x = reinterpret_cast<const float2*>(head)[pair];
      if constexpr (kType == KvType::kF16)
        *reinterpret_cast<__half2*>(place(4 * pair)) = saturated_half2(x);
      else
        *reinterpret_cast<__nv_fp8x2_storage_t*>(place(2 * pair)) =
            __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E4M3);
    }
  }
}

// Where a head stands among the queries, then the keys, then the values of a token.
struct HeadRole {
  bool is_query, is_key;
  const float* bias;  // [head_dim] or null
  const float* norm;  // [head_dim] or null

  __device__ __forceinline__ HeadRole(const RopeKvArgs& args, int index)
      : is_query(index < args.n_heads),
        is_key(!is_query && index < args.n_heads + args.n_kv_heads),
        bias(args.bias == nullptr ? nullptr : args.bias + index * args.head_dim),
        norm(is_query ? args.q_norm
             : is_key ? args.k_norm
                      : nullptr) {}
};

// Writes a finished head to where it belongs.
template <KvType kType>
__device__ __forceinline__ void write_head(const RopeKvArgs& args, const HeadRole& role, int index, int token,
                                           int position, int page, int lane, const float* head) {
  if (role.is_query) {
    auto* q = reinterpret_cast<__half2*>(args.q + (static_cast<int64_t>(token) * args.n_heads + index) * args.head_dim);
    for (int pair = lane; pair < args.head_dim / 2; pair += 32)
      q[pair] = saturated_half2(reinterpret_cast<const float2*>(head)[pair]);
    return;
  }
  const int kv_head = role.is_key ? index - args.n_heads : index - args.n_heads - args.n_kv_heads;
  std::byte* plane = args.kv.pages + page * args.kv.page_bytes +
                     (2 * kv_head + (role.is_key ? 0 : 1)) * kv_plane_bytes(kType, args.head_dim);
  write_row<kType>(head, args.head_dim, plane, position % kPageTokens, lane);
}

// blockIdx.x: token. Heads are dealt out to the warps of all CTAs along y.
template <KvType kType>
__global__ void __launch_bounds__(32 * kWarps) rope_kv_kernel(const RopeKvArgs args) {
  __shared__ __align__(16) float heads[kWarps][kMaxHeadDim];
  release_successor();
  const int token = blockIdx.x, lane = threadIdx.x % 32, n_heads = args.n_heads + 2 * args.n_kv_heads;
  int index = blockIdx.y * kWarps + threadIdx.x / 32;
  const DeviceBatch& batch = args.batch;
  // Of the step's plan: there before its first kernel.
  const bool exists = index < n_heads && token < *batch.n_tokens_real && batch.seq_of[token] >= 0;
  if (!exists) return wait_for_predecessor();
  const int position = batch.positions[token];
  const int page = batch.pages[batch.page_start[batch.seq_of[token]] + position / kPageTokens];
  const Angles angles(args, position, lane);
  HeadRole role(args, index);
  HeadWeights weights(role.bias, role.norm, args.head_dim, lane);
  wait_for_predecessor();

  float* head = heads[threadIdx.x / 32];
  const float* row = args.qkv + static_cast<int64_t>(token) * n_heads * args.head_dim;
  for (;;) {
    load_head(args, row + index * args.head_dim, weights, role.norm != nullptr, lane, head);
    if (role.is_query || role.is_key) rotate_head(args, angles, lane, head);
    write_head<kType>(args, role, index, token, position, page, lane, head);
    index += gridDim.y * kWarps;
    if (index >= n_heads) return;
    role = HeadRole(args, index);
    weights = HeadWeights(role.bias, role.norm, args.head_dim, lane);
    __syncwarp();  // all lanes have read the head before
  }
}

}  // namespace

void rope_and_write_kv(const RopeKvArgs& args, int n_tokens, cudaStream_t stream) {
  SPATE_CHECK(n_tokens > 0 && args.head_dim % 16 == 0 && args.head_dim <= kMaxHeadDim && args.rotary_dim % 2 == 0 &&
                  args.rotary_dim <= args.head_dim && (args.q_norm == nullptr) == (args.k_norm == nullptr),
              "{} tokens, heads of {}, {} of them rotary", n_tokens, args.head_dim, args.rotary_dim);
  const int n_heads = args.n_heads + 2 * args.n_kv_heads;
  // A head a warp while that leaves room on the device; then several, which share their angles.
  const int heads_a_warp = n_tokens < 64 ? 1 : 4;
  const Launch how{.grid = dim3(n_tokens, (n_heads + heads_a_warp * kWarps - 1) / (heads_a_warp * kWarps)),
                   .block = 32 * kWarps,
                   .stream = stream,
                   .dependent = args.dependent_launch};
  const auto kernel = args.kv.type == KvType::kF16    ? rope_kv_kernel<KvType::kF16>
                      : args.kv.type == KvType::kQ8_0 ? rope_kv_kernel<KvType::kQ8_0>
                                                      : rope_kv_kernel<KvType::kFp8>;
  SPATE_CUDA(launch(how, kernel, args), "RoPE of {} tokens, {} query and {} KV heads of {}", n_tokens, args.n_heads,
             args.n_kv_heads, args.head_dim);
}

}  // namespace spate::cuda
