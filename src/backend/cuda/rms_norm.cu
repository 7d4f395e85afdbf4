// RMSNorm of rows of the residual stream (Zhang and Sennrich 2019), written as activations for the products that
// follow.
#include "backend/cuda/launch.h"
#include "backend/cuda/norm_fold.h"
#include "backend/cuda/ops.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kMaxThreads = 1024;

// The sum of `value` over the CTA, the same in all threads. Warps' sums are added in one order.
__device__ __forceinline__ float cta_sum(float value) {
  __shared__ float of_warp[kMaxThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x / 32) ? of_warp[lane] : 0;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// Four columns from k on, k a multiple of 4: two pairs that stay together (k_position).
__device__ __forceinline__ void store_four(__half* x, int k, float4 v) {
  __half* to = x + k_position(k);
  *reinterpret_cast<__half2*>(to) = __floats2half2_rn(v.x, v.y);
  *reinterpret_cast<__half2*>(to + 8) = __floats2half2_rn(v.z, v.w);
}

__device__ __forceinline__ float4 scaled(float4 v, float4 weight, float scale) {
  return {v.x * scale * weight.x, v.y * scale * weight.y, v.z * scale * weight.z, v.w * scale * weight.w};
}

// A CTA a row, kept in registers: kVecs times four columns a thread. d_model is a multiple of 4.
template <int kVecs>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_kernel(const NormArgs args) {
  release_successor();
  const int row = blockIdx.x, n_vecs = args.d_model / 4;
  const auto* weight = reinterpret_cast<const float4*>(args.weight);
  float4 w[kVecs], v[kVecs];
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    w[i] = at < n_vecs ? weight[at] : float4{0, 0, 0, 0};
  }
  const int from =
      args.gather == nullptr ? row : args.gather[row];  // of the step's plan: there before its first kernel
  wait_for_predecessor();
  // Read whether wanted or not: a branch around each would put the reads one after the other.
  const auto* residual =
      reinterpret_cast<const float4*>(args.residual + static_cast<int64_t>(max(from, 0)) * args.d_model);
#pragma unroll
  for (int i = 0; i < kVecs; ++i) v[i] = residual[min(static_cast<int>(threadIdx.x + i * blockDim.x), n_vecs - 1)];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const bool wanted = static_cast<int>(threadIdx.x + i * blockDim.x) < n_vecs && from >= 0;
    v[i] = wanted ? v[i] : float4{0, 0, 0, 0};
    squares += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
  }
  const float scale = rsqrtf(cta_sum(squares) / static_cast<float>(args.d_model) + args.epsilon);
  if (args.next_scale != nullptr && threadIdx.x == 0) args.next_scale[row] = fold_scale(scale);
  __half* x = args.x + static_cast<int64_t>(row) * padded_cols(args.d_model);
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at >= n_vecs) continue;
    const float4 out = scaled(v[i], w[i], scale);
    store_four(x, 4 * at, out);
    if (args.hidden != nullptr)
      reinterpret_cast<float4*>(args.hidden + static_cast<int64_t>(row) * args.d_model)[at] = out;
  }
}

// Any d_model, the row read twice.
__global__ void __launch_bounds__(kMaxThreads) rms_norm_any_kernel(const NormArgs args) {
  release_successor();
  wait_for_predecessor();
  const int row = blockIdx.x, from = args.gather == nullptr ? row : args.gather[row];
  const float* residual = args.residual + static_cast<int64_t>(from) * args.d_model;
  float squares = 0;
  if (from >= 0)
    for (int k = threadIdx.x; k < args.d_model; k += blockDim.x) squares += residual[k] * residual[k];
  const float scale = rsqrtf(cta_sum(squares) / static_cast<float>(args.d_model) + args.epsilon);
  if (args.next_scale != nullptr && threadIdx.x == 0) args.next_scale[row] = fold_scale(scale);
  __half* x = args.x + static_cast<int64_t>(row) * padded_cols(args.d_model);
  for (int k = threadIdx.x; k < args.d_model; k += blockDim.x) {
    const float out = from >= 0 ? residual[k] * scale * args.weight[k] : 0.0f;
    x[k_position(k)] = __float2half_rn(out);
    if (args.hidden != nullptr) args.hidden[static_cast<int64_t>(row) * args.d_model + k] = out;
  }
}

}  // namespace

void rms_norm(const NormArgs& args, int n_rows, cudaStream_t stream) {
  SPATE_CHECK(n_rows > 0 && args.d_model > 0, "{} rows of {}", n_rows, args.d_model);
  // Few threads with much in flight each: every warp more is one more sum to wait for.
  const int kept = args.d_model < 2048 ? 1 : args.d_model < 4096 ? 2 : 4;
  const bool in_registers = args.d_model % 4 == 0 && args.d_model <= 4 * 4 * kMaxThreads;
  const int wanted = in_registers ? (args.d_model / 4 + kept - 1) / kept : args.d_model;
  const int threads = wanted >= kMaxThreads ? kMaxThreads : (wanted + 31) / 32 * 32;
  const Launch how{.grid = static_cast<unsigned>(n_rows),
                   .block = static_cast<unsigned>(threads),
                   .stream = stream,
                   .dependent = args.dependent_launch};
  const auto kernel = !in_registers ? rms_norm_any_kernel
                      : kept == 1   ? rms_norm_kernel<1>
                      : kept == 2   ? rms_norm_kernel<2>
                                    : rms_norm_kernel<4>;
  SPATE_CUDA(launch(how, kernel, args), "RMSNorm of {} rows of {}", n_rows, args.d_model);
}

}  // namespace spate::cuda
