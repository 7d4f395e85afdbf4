// What follows the QKV product of many tokens: bias, QK-norm, rotary embedding, and keys and values into their pages.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/raw_head.cuh"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kWarps = 4;
// From here on a warp takes several heads of a token, which share its angles: the device is full of warps then, which
// hide one another's waits. With fewer tokens heads that a warp takes one after the other are waits in a row (64 tokens
// of 48 heads on an H200, 2026-11-23: 7.7 us with four heads a warp, where 32 tokens with one take 2.8).
constexpr int kManyTokens = 256;
constexpr int kHeadsOfMany = 4;

// Where a finished head belongs.
template <KvType kType>
__device__ __forceinline__ HeadRow row_of(const RopeKvArgs& args, const HeadRole& role, int index, int token,
                                          const TokenPlace& place) {
  const int head_dim = args.head_dim;
  if (role.is_query) {
    __half* q = args.q + (static_cast<int64_t>(token) * args.n_heads + index) * head_dim;
    return {.row = reinterpret_cast<std::byte*>(q)};
  }
  const int kv_head = role.is_key ? index - args.n_heads : index - args.n_heads - args.n_kv_heads;
  std::byte* plane = args.kv.pages + place.page() * args.kv.page_bytes +
                     (2 * kv_head + (role.is_key ? 0 : 1)) * kv_plane_bytes(kType, head_dim);
  return plane_row(plane, kType, head_dim, place.position % kPageTokens);
}

// blockIdx.x: token. Heads are dealt out to the warps of all CTAs along y. kPairs: lane_pairs(head_dim), rounded up.
//
// Few tokens are all latency: CTAs that find no room beside the product start when it has ended, so that nothing they
// wait for is hidden. All that is read is asked for before any of it is used, and angles are computed while the
// product's row is on its way.
template <KvType kType, int kPairs>
__global__ void __launch_bounds__(32 * kWarps) rope_kv_kernel(const RopeKvArgs args) {
  __shared__ __align__(16) float heads[kWarps][64 * kPairs];
  release_successor();
  const int token = blockIdx.x, lane = threadIdx.x % 32, n_heads = args.n_heads + 2 * args.n_kv_heads;
  int index = blockIdx.y * kWarps + threadIdx.x / 32;
  if (index >= n_heads) return wait_for_predecessor();
  const TokenPlace place = args.batch.places[token];  // of the step's plan: there before its first kernel
  HeadRole role(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
  Frequencies<kPairs> frequencies;
  frequencies.load(args.raw, lane);
  HeadWeights<kPairs> weights;
  weights.load(role, args.head_dim, lane);
  const float* row = args.raw.qkv + static_cast<int64_t>(token) * (n_heads * args.head_dim);
  wait_for_predecessor();

  HeadValues<kPairs> values;
  values.load(row + index * args.head_dim, args.head_dim, lane);
  // ptxas moves nothing over these two: else it computes angles first, and only then asks for the product's row.
  __syncwarp();
  const int position = __shfl_sync(0xffffffffu, place.position, 0);
  Angles<kPairs> angles;
  angles.set(frequencies, args.raw.magnitude, position);
  if (place.is_padding()) return;
  for (;;) {
    const HeadRow to = row_of<kType>(args, role, index, token, place);
    values.normalise(weights, role.norm != nullptr, args.raw.norm_epsilon, args.head_dim, lane);
    if (role.is_rotated()) values.rotate_pairs(args.raw, angles, lane, heads[threadIdx.x / 32]);
    if (kType == KvType::kF16 || role.is_query)
      write_head<KvType::kF16>(values, args.head_dim, lane, to);
    else
      write_head<kType>(values, args.head_dim, lane, to);
    index += gridDim.y * kWarps;
    if (index >= n_heads) return;
    role = HeadRole(args.raw, args.n_heads, args.n_kv_heads, args.head_dim, index);
    weights.load(role, args.head_dim, lane);
    values.load(row + index * args.head_dim, args.head_dim, lane);
    __syncwarp();  // all lanes have read the head before
  }
}

template <KvType kType>
auto kernel_of(int head_dim) {
  static_assert(lane_pairs(kMaxHeadDim) == 4);
  const int pairs = lane_pairs(head_dim);
  return pairs == 1 ? rope_kv_kernel<kType, 1> : pairs == 2 ? rope_kv_kernel<kType, 2> : rope_kv_kernel<kType, 4>;
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
  const auto kernel = args.kv.type == KvType::kF16    ? kernel_of<KvType::kF16>(args.head_dim)
                      : args.kv.type == KvType::kQ8_0 ? kernel_of<KvType::kQ8_0>(args.head_dim)
                                                      : kernel_of<KvType::kFp8>(args.head_dim);
  SPATE_CUDA(launch(how, kernel, args), "RoPE of {} tokens, {} query and {} KV heads of {}", n_tokens, args.n_heads,
             args.n_kv_heads, args.head_dim);
}

}  // namespace spate::cuda
