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

// What a lane needs of a head beside the product itself. None of it comes from the kernel before this one, so it is
// read, and the angles are worked out, before waiting for that.
struct HeadInputs {
  float2 bias[kMaxPairs];  // of pair lane + 32 i of neighbouring elements
  float2 norm[kMaxPairs];
  Rotation rotation[kMaxPairs];  // of rotary pair lane + 32 i, times the magnitude

  // bias, norm: [head_dim] or null.
  __device__ __forceinline__ HeadInputs(const RopeKvArgs& args, const float* bias_from, const float* norm_from,
                                        bool rotates, int position, int lane) {
#pragma unroll
    for (int i = 0; i < kMaxPairs; ++i) {
      const int pair = lane + 32 * i;
      const bool exists = pair < args.head_dim / 2;
      bias[i] = exists && bias_from != nullptr ? pair_of(bias_from, pair) : float2{0, 0};
      norm[i] = exists && norm_from != nullptr ? pair_of(norm_from, pair) : float2{1, 1};
      rotation[i] = {1, 0};
      if (!rotates || pair >= args.rotary_dim / 2) continue;
      const Rotation r = rotation_at(position, args.frequencies[pair]);
      rotation[i] = {r.cos * args.magnitude, r.sin * args.magnitude};
    }
  }

 private:
  static __device__ __forceinline__ float2 pair_of(const float* from, int pair) {
    return {from[2 * pair], from[2 * pair + 1]};
  }
};

// Reads a head of the product to `head` (shared memory), with bias and, where there is a norm, RMSNorm applied.
__device__ __forceinline__ void load_head(const RopeKvArgs& args, const float* from, const HeadInputs& inputs,
                                          bool has_norm, int lane, float* head) {
  float2 x[kMaxPairs];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    x[i] = pair < args.head_dim / 2 ? reinterpret_cast<const float2*>(from)[pair] : float2{0, 0};
    x[i].x += inputs.bias[i].x;
    x[i].y += inputs.bias[i].y;
    squares += x[i].x * x[i].x + x[i].y * x[i].y;
  }
  const float scale =
      has_norm ? rsqrtf(warp_sum(squares) / static_cast<float>(args.head_dim) + args.norm_epsilon) : 1.0f;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair < args.head_dim / 2)
      reinterpret_cast<float2*>(head)[pair] = {x[i].x * scale * inputs.norm[i].x, x[i].y * scale * inputs.norm[i].y};
  }
  __syncwarp();
}

__device__ __forceinline__ void rotate_head(const RopeKvArgs& args, const HeadInputs& inputs, int lane, float* head) {
  const int n_pairs = args.rotary_dim / 2;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int pair = lane + 32 * i;
    if (pair >= n_pairs) continue;
    const int first = args.style == RopeStyle::kNorm ? 2 * pair : pair;
    const int second = args.style == RopeStyle::kNorm ? first + 1 : first + n_pairs;
    const float c = inputs.rotation[i].cos, s = inputs.rotation[i].sin;
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

// blockIdx.x: token; blockIdx.y * kWarps + warp: head, of the queries, then the keys, then the values.
template <KvType kType>
__global__ void __launch_bounds__(32 * kWarps) rope_kv_kernel(const RopeKvArgs args) {
  __shared__ __align__(16) float heads[kWarps][kMaxHeadDim];
  release_successor();
  const int token = blockIdx.x, lane = threadIdx.x % 32;
  const int index = blockIdx.y * kWarps + threadIdx.x / 32;
  const int n_heads = args.n_heads + 2 * args.n_kv_heads;
  const DeviceBatch& batch = args.batch;
  // Of the step's plan: there before its first kernel.
  const bool exists = index < n_heads && token < *batch.n_tokens_real && batch.seq_of[token] >= 0;
  const int position = exists ? batch.positions[token] : 0;
  const int page = exists ? batch.pages[batch.page_start[batch.seq_of[token]] + position / kPageTokens] : 0;
  const bool is_query = index < args.n_heads, is_key = !is_query && index < args.n_heads + args.n_kv_heads;
  const float* bias = exists && args.bias != nullptr ? args.bias + index * args.head_dim : nullptr;
  const float* norm = is_query ? args.q_norm : is_key ? args.k_norm : nullptr;
  const HeadInputs inputs(args, bias, norm, is_query || is_key, position, lane);
  wait_for_predecessor();
  if (!exists) return;

  float* head = heads[threadIdx.x / 32];
  const int64_t row = static_cast<int64_t>(token) * n_heads * args.head_dim;
  load_head(args, args.qkv + row + index * args.head_dim, inputs, norm != nullptr, lane, head);
  if (is_query || is_key) rotate_head(args, inputs, lane, head);
  if (is_query) {
    auto* q = reinterpret_cast<__half2*>(args.q + (static_cast<int64_t>(token) * args.n_heads + index) * args.head_dim);
    for (int pair = lane; pair < args.head_dim / 2; pair += 32)
      q[pair] = saturated_half2(reinterpret_cast<const float2*>(head)[pair]);
    return;
  }
  const int kv_head = is_key ? index - args.n_heads : index - args.n_heads - args.n_kv_heads;
  std::byte* plane = args.kv.pages + page * args.kv.page_bytes +
                     (2 * kv_head + (is_key ? 0 : 1)) * kv_plane_bytes(kType, args.head_dim);
  write_row<kType>(head, args.head_dim, plane, position % kPageTokens, lane);
}

}  // namespace

void rope_and_write_kv(const RopeKvArgs& args, int n_tokens, cudaStream_t stream) {
  SPATE_CHECK(n_tokens > 0 && args.head_dim % 16 == 0 && args.head_dim <= kMaxHeadDim && args.rotary_dim % 2 == 0 &&
                  args.rotary_dim <= args.head_dim && (args.q_norm == nullptr) == (args.k_norm == nullptr),
              "{} tokens, heads of {}, {} of them rotary", n_tokens, args.head_dim, args.rotary_dim);
  const int n_heads = args.n_heads + 2 * args.n_kv_heads;
  const Launch how{.grid = dim3(n_tokens, (n_heads + kWarps - 1) / kWarps),
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
