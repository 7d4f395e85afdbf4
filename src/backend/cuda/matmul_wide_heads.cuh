// Queries, keys and values straight from the sums of a product by matmul_wide.cuh, where a CTA has rows of whole heads:
// what rope_kv.cu would have made of them by a kernel of its own, to the bit.
//
// What the work needs besides the sums waits for nothing: where tokens stand and the angles' frequencies are fetched by
// a warp that has nothing else to do, before the kernel's predecessor has ended; the first angles of a multiplying warp
// are worked out while it would wait for the other CTAs of its cluster.
#pragma once

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_wide.h"
#include "backend/cuda/raw_head.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_BULK_COPY

// What a CTA's warps know of its tokens ahead of their sums.
struct HeadTokens {
  TokenPlace places[kWideHeadTokens];
  float frequencies[kWideHeadDim / 2];
  uint64_t ready;  // a barrier: its first phase ends when the rest is there
};
__device__ __forceinline__ HeadTokens& head_tokens() {
  __shared__ HeadTokens tokens;
  return tokens;
}

// One thread, before a barrier of the CTA.
__device__ __forceinline__ void init_head_tokens() {
  barrier_init(shared_address(&head_tokens().ready), 1);
}

// One warp: fetches what is known of tokens [begin, end) of those from first_token on.
__device__ __forceinline__ void fetch_head_tokens(const RopeKvArgs& to, int first_token, int begin, int end) {
  HeadTokens& tokens = head_tokens();
  const int lane = threadIdx.x % 32;
  for (int i = lane; i < to.raw.rotary_dim / 2; i += 32) tokens.frequencies[i] = to.raw.frequencies[i];
  for (int t = begin + lane; t < end; t += 32) tokens.places[t] = TokenPlace::of(to.batch, first_token + t);
  __syncwarp();
  if (lane == 0) barrier_arrive(shared_address(&tokens.ready));
}

// A warp's way from the sums of heads to where these belong, one after the other. Heads are numbered by token, then by
// their place in the CTA's rows.
class WideHeads {
 public:
  // Of tokens [begin, end) of the CTA's, of 2^rows_log2 rows each.
  __device__ __forceinline__ WideHeads(const MmaParams& p, const CtaPlace& cta, int rows_log2, int begin, int end)
      : p_(p),
        cta_(cta),
        head_log2_(__ffs(p.heads.head_dim) - 1),
        per_token_log2_(rows_log2 - head_log2_),
        current_((begin << per_token_log2_) + static_cast<int>(threadIdx.x / 32)),
        end_(end << per_token_log2_) {
    barrier_wait(shared_address(&head_tokens().ready), 0);
  }

  // The current head's place, angles and weights, to be had before its sums are.
  __device__ __forceinline__ void prepare() {
    exists_ = current_ < end_;
    if (!exists_) return;
    token_ = current_ >> per_token_log2_;
    row_ = (current_ & ((1 << per_token_log2_) - 1)) << head_log2_;
    place_ = head_tokens().places[token_];
    const int slot = cta_.first_slot + row_ / kTileRows;
    exists_ = slot < p_.n_slots && place_.exists();
    if (!exists_) return;
    const SlotPlace of = slot_place(p_, slot);
    part_ = of.part;
    part_row_ = of.panel * kTileRows;
    exists_ = part_row_ < p_.parts[part_].n_rows;  // or it lies between parts of two types
    if (!exists_) return;
    angles_.set(p_.heads.raw, head_tokens().frequencies, place_.position, lane());
    weights_.set(role(), p_.heads.head_dim, lane());
  }

  // Of the sums [tokens of the CTA][stride]; the head's own are overwritten.
  __device__ __forceinline__ void make(float* sums, int stride) const {
    if (!exists_) return;
    const RopeKvArgs& to = p_.heads;
    const int token = cta_.first_token + token_;
    const HeadRole of = role();
    float* head = sums + token_ * stride + row_;
    HeadValues<kPairs> values;
    values.load(head, to.head_dim, lane());
    values.multiply([&](int d) { return row_factor(p_.parts[part_], part_row_ + d); },
                    token_factors().of_sums[token % kMaxCtaTokens], to.head_dim, lane());
    values.place(weights_, of.norm != nullptr, to.raw.norm_epsilon, to.head_dim, lane(), head);
    if (of.is_rotated()) rotate_head(to.raw, angles_, lane(), head);
    switch (to.kv.type) {
      case KvType::kF16:
        return write_head<KvType::kF16, kPairs>(to, of, index(), token, place_, lane(), head);
      case KvType::kQ8_0:
        return write_head<KvType::kQ8_0, kPairs>(to, of, index(), token, place_, lane(), head);
      case KvType::kFp8:
        return write_head<KvType::kFp8, kPairs>(to, of, index(), token, place_, lane(), head);
    }
  }

  // On to the warp's next head; false: there is none.
  __device__ __forceinline__ bool next() {
    current_ += kWideWarps;
    return current_ < end_;
  }

 private:
  static constexpr int kPairs = lane_pairs(kWideHeadDim);

  __device__ __forceinline__ static int lane() { return threadIdx.x % 32; }
  // Among the queries, keys and values of a token.
  __device__ __forceinline__ int index() const { return (p_.parts[part_].column + part_row_) >> head_log2_; }
  __device__ __forceinline__ HeadRole role() const {
    const RopeKvArgs& to = p_.heads;
    return HeadRole(to.raw, to.n_heads, to.n_kv_heads, to.head_dim, index());
  }

  const MmaParams& p_;
  const CtaPlace& cta_;
  int head_log2_, per_token_log2_;
  int current_, end_;
  bool exists_ = false;
  int token_ = 0, row_ = 0;  // of the CTA's tokens; the head's first of the CTA's rows
  TokenPlace place_{0, -1};
  int part_ = 0, part_row_ = 0;  // the matrix, and its first row of the head
  Angles<kPairs> angles_;
  HeadWeights<kPairs> weights_;
};

#endif  // SPATE_HAS_BULK_COPY

#endif  // __CUDACC__

}  // namespace spate::cuda
