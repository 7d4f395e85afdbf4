// What follows the QKV product of many tokens: bias, QK-norm, rotary embedding, and keys and values into their pages.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/raw_head.cuh"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kMaxPairs = lane_pairs(kMaxHeadDim);
// From here on a warp takes several heads of a token, which share its angles: the device is full of warps then, which
// hide one another's waits. With fewer tokens heads that a warp takes one after the other are waits in a row (64 tokens
// of 48 heads on an H200, 2026-11-23: 7.7 us with four heads a warp, where 32 tokens with one take 2.8).
constexpr int kManyTokens = 256;
constexpr int kHeadsOfMany = 4;

// blockIdx.x: token. Heads are dealt out to the warps of all CTAs along y.
template <KvType kType>
__global__ void __launch_bounds__(32 * kWarps) rope_kv_kernel(const RopeKvArgs args) {
  __shared__ __align__(16) float heads[kWarps][kMaxHeadDim];
  release_successor();
  const int token = blockIdx.x, lane = threadIdx.x % 32, n_heads = args.n_heads + 2 * args.n_kv_heads;
  int index = blockIdx.y * kWarps + threadIdx.x / 32;
  const TokenPlace place = TokenPlace::of(args.batch, token);
  if (index >= n_heads || !place.exists()) return wait_for_predecessor();
  HeadRole role(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
  Angles<kMaxPairs> angles;
  angles.set(args.raw, args.raw.frequencies, place.position, lane);
  HeadWeights<kMaxPairs> weights;
  weights.set(role, args.head_dim, lane);
  wait_for_predecessor();

  float* head = heads[threadIdx.x / 32];
  const float* row = args.raw.qkv + static_cast<int64_t>(token) * n_heads * args.head_dim;
  for (;;) {
    HeadValues<kMaxPairs> values;
    values.load(row + index * args.head_dim, args.head_dim, lane);
    values.place(weights, role.norm != nullptr, args.raw.norm_epsilon, args.head_dim, lane, head);
    if (role.is_rotated()) rotate_head(args.raw, angles, lane, head);
    write_head<kType, kMaxPairs>(args, role, index, token, place, lane, head);
    index += gridDim.y * kWarps;
    if (index >= n_heads) return;
    role = HeadRole(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
    weights.set(role, args.head_dim, lane);
    __syncwarp();  // all lanes have read the head before
  }
}

}  // namespace

void rope_and_write_kv(const RopeKvArgs& args, int n_tokens, cudaStream_t stream) {
  check_raw_heads(args.raw, args.head_dim);
  SPATE_CHECK(n_tokens > 0 && args.head_dim % 16 == 0 && args.head_dim <= kMaxHeadDim, "{} tokens, heads of {}",
              n_tokens, args.head_dim);
  const int n_heads = args.n_heads + 2 * args.n_kv_heads;
  const int heads_a_warp = n_tokens < kManyTokens ? 1 : kHeadsOfMany;
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
