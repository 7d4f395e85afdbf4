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

// Writes a finished head to where it belongs.
template <KvType kType>
__device__ __forceinline__ void write_head(const RopeKvArgs& args, const HeadRole& role, int index, int token,
                                           int position, int page, int lane, const float* head) {
  const int head_dim = args.head_dim;
  if (role.is_query) {
    write_query(head, head_dim, lane, args.q + (static_cast<int64_t>(token) * args.n_heads + index) * head_dim);
    return;
  }
  const int kv_head = role.is_key ? index - args.n_heads : index - args.n_heads - args.n_kv_heads;
  std::byte* plane = args.kv.pages + page * args.kv.page_bytes +
                     (2 * kv_head + (role.is_key ? 0 : 1)) * kv_plane_bytes(kType, head_dim);
  write_row<kType>(head, head_dim, lane,
                   PlaneRow{.plane = plane,
                            .row_bytes = kv_row_bytes(kType, head_dim),
                            .head_dim = head_dim,
                            .token = position % kPageTokens});
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
  HeadRole role(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
  Angles<kMaxPairs> angles;
  angles.set(args.raw, position, lane);
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
    write_head<kType>(args, role, index, token, position, page, lane, head);
    index += gridDim.y * kWarps;
    if (index >= n_heads) return;
    role = HeadRole(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
    weights.set(role, args.head_dim, lane);
    __syncwarp();  // all lanes have read the head before
  }
}

// CHECKs what the kernel counts on.
void check_heads(const RawHeads& raw, int head_dim) {
  SPATE_CHECK(raw.qkv != nullptr && (raw.q_norm == nullptr) == (raw.k_norm == nullptr), "half of the QK-norm");
  SPATE_CHECK(raw.rotary_dim >= 0 && raw.rotary_dim % 2 == 0 && raw.rotary_dim <= head_dim &&
                  (raw.rotary_dim == 0 || raw.frequencies != nullptr),
              "{} rotary dimensions of {}", raw.rotary_dim, head_dim);
}

}  // namespace

void rope_and_write_kv(const RopeKvArgs& args, int n_tokens, cudaStream_t stream) {
  check_heads(args.raw, args.head_dim);
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
