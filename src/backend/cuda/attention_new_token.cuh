// Decode attention's own making of queries, keys and values, where every sequence has one query: what rope_kv.cu would
// have left in memory, by the same code (raw_head.cuh), for one KV head.
//
// Every CTA that works on a sequence and KV head makes the group's queries for itself. The new token's key and value
// are made by the item that holds the sequence's last page, and by no other: it attends to them from shared memory, in
// the form in which they are kept, and writes them to the page. Nobody else reads that position in this launch.
#pragma once

#include "backend/cuda/attention_params.h"
#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/raw_head.cuh"

namespace spate::cuda {

template <KvType kType, int kDim, int kRows>
class NewToken {
 public:
  // staged: [staged_token_bytes()] shared memory of the CTA. head: [kDim] of the warp's own, used by finish() alone.
  __device__ NewToken(const AttentionParams& p, std::byte* staged, float* head) : p_(p), staged_(staged), head_(head) {}

  // Turns to an item's token, of which the warp is to make heads warp, warp + n_warps, ...: the group's queries, then
  // key and value. Needs nothing that this step computes.
  __device__ __forceinline__ void prepare(const AttentionItem& item) {
    token_ = item.q_start;
    kv_head_ = item.kv_head;
    n_heads_ = p_.group + (item.end_page * kPageTokens >= item.kv_len ? 2 : 0);
    if (warp() >= n_heads_) return;
    angles_.set(p_.raw, item.kv_len - 1, lane());
    weights_.set(role(warp()), kDim, lane());
  }

  // Starts to read the first head.
  __device__ __forceinline__ void load() {
    if (warp() < n_heads_) values_.load(head_of_product(warp()), kDim, lane());
  }

  // Leaves the heads in shared memory, for all warps once they have synchronised.
  __device__ __forceinline__ void finish() {
    for (int h = warp(); h < n_heads_; h += blockDim.x / 32) {
      const HeadRole of = role(h);
      if (h != warp()) {
        weights_.set(of, kDim, lane());
        values_.load(head_of_product(h), kDim, lane());
      }
      values_.place(weights_, of.norm != nullptr, p_.raw.norm_epsilon, kDim, lane(), head_);
      if (of.is_rotated()) rotate_head(p_.raw, angles_, lane(), head_);
      if (of.is_query) {
        write_query(head_, kDim, lane(), staged_query(h));
      } else {
        write_row<kType>(head_, kDim, lane(), staged_row(h - p_.group));
      }
      __syncwarp();  // all lanes have read the head
    }
  }

  // Query `row` of the group.
  __device__ __forceinline__ const __half* query(int row) const { return staged_query(row); }

  // Puts the new token's key (which = 0) or value (1) where it belongs: in `plane`, the copy of its page's plane in
  // shared memory, and in the page. All of a warp.
  __device__ __forceinline__ void insert(const AttentionItem& item, int page, int which, int lane,
                                         std::byte* plane) const {
    constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim), kRowBytes = kv_row_bytes(kType, kDim);
    static_assert(kRowBytes <= 32 * kKvChunkBytes);
    const StagedRow row = staged_row(which);
    const int token = (item.kv_len - 1) % kPageTokens;
    std::byte* kept =
        p_.kv + p_.pages[item.page_list + page] * p_.page_bytes + (2 * item.kv_head + which) * kPlaneBytes;
    if (lane < kRowBytes / kKvChunkBytes) {
      const uint4 chunk = reinterpret_cast<const uint4*>(row.bytes)[lane];
      const int at = token * kRowBytes + kv_chunk(kRowBytes, token, lane) * kKvChunkBytes;
      *reinterpret_cast<uint4*>(plane + at) = chunk;
      *reinterpret_cast<uint4*>(kept + at) = chunk;
    }
    if constexpr (kType == KvType::kQ8_0) {
      if (lane < (kDim + kKvBlock - 1) / kKvBlock) {
        const int at = kv_scales_offset(kDim) + 2 * kv_scale_index(token, lane);
        const __half scale = *row.scale(lane);
        *reinterpret_cast<__half*>(plane + at) = scale;
        *reinterpret_cast<__half*>(kept + at) = scale;
      }
    }
    __syncwarp();
  }

 private:
  static constexpr int kPairs = lane_pairs(kDim);

  // A key or value as it is kept, but for the order of its chunks; the scales behind it.
  struct StagedRow {
    std::byte* bytes;
    __device__ __forceinline__ std::byte* at(int byte) const { return bytes + byte; }
    __device__ __forceinline__ __half* scale(int block) const {
      return reinterpret_cast<__half*>(bytes + kv_row_bytes(kType, kDim)) + block;
    }
  };

  __device__ __forceinline__ static int warp() { return threadIdx.x / 32; }
  __device__ __forceinline__ static int lane() { return threadIdx.x % 32; }

  __device__ __forceinline__ __half* staged_query(int row) const {
    return reinterpret_cast<__half*>(staged_) + row * staged_query_pitch(kDim);
  }
  __device__ __forceinline__ StagedRow staged_row(int which) const {
    return {staged_ + kRows * staged_query_pitch(kDim) * 2 + which * staged_row_bytes(kType, kDim)};
  }

  // Of the product's row: queries, keys, then values.
  __device__ __forceinline__ int index_of(int h) const {
    if (h < p_.group) return kv_head_ * p_.group + h;
    return p_.n_heads + kv_head_ + (h - p_.group) * p_.n_kv_heads;
  }
  __device__ __forceinline__ HeadRole role(int h) const {
    return HeadRole(p_.raw, p_.n_heads, p_.n_kv_heads, kDim, index_of(h));
  }
  __device__ __forceinline__ const float* head_of_product(int h) const {
    return p_.raw.qkv + (int64_t{token_} * (p_.n_heads + 2 * p_.n_kv_heads) + index_of(h)) * kDim;
  }

  const AttentionParams& p_;
  std::byte* staged_;
  float* head_;
  int token_ = 0, kv_head_ = 0, n_heads_ = 0;
  Angles<kPairs> angles_;
  HeadWeights<kPairs> weights_;
  HeadValues<kPairs> values_;
};

}  // namespace spate::cuda
