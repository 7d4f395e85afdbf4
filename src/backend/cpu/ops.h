// What a layer does besides its matrix products, one table of functions per instruction set. Every function handles one
// token (or one attention work item), so a token's numbers depend on nothing but the token; the executor shares the
// calls among threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"

namespace spate::cpu {

// Elements per vector: rows of scratch memory are padded to a multiple of it.
inline constexpr int kLanes = 16;
inline constexpr int round_up_lanes(int n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

// One layer's keys and values of one page and KV head, float16. Keys lie transposed, so that a lane is a token and
// scores need no sum across lanes: keys[head_dim][32 tokens], then values[32 tokens][head_stride], head_stride =
// head_dim rounded up to kLanes.
struct KvLayout {
  int n_kv_heads = 0;
  int head_dim = 0;
  int64_t page_stride = 0;  // elements from one page to the next within a layer

  int head_stride() const { return round_up_lanes(head_dim); }
  int64_t keys_elems() const;  // of one head and page
  int64_t head_elems() const;  // keys and values of one head and page
  int64_t elems_per_page() const { return n_kv_heads * head_elems(); }
};

// Floats of a query's running softmax: the weighted values of the head, padded to kLanes, then maximum and sum. A
// multiple of kLanes, so that its vectors cross no cache line.
inline constexpr int attention_state_elems(int head_dim) {
  return round_up_lanes(head_dim) + kLanes;
}

// Keys that are attended to as one unit: partial results of units are merged in ascending order, whichever thread made
// them, so how the work is split changes no bit.
inline constexpr int kAttentionUnitTokens = 512;

// Part of the attention of one sequence and one KV head: n_queries query vectors against the keys at positions
// [unit_begin * 512, min(unit_end * 512, each query's position + 1)).
struct AttentionItem {
  const uint16_t* cache = nullptr;  // this layer's pages
  const int32_t* pages = nullptr;   // [ceil(kv_len / 32)] of the sequence
  KvLayout layout;
  int kv_head = 0;
  float scale = 1;
  int gqa_group = 1;         // query heads of this KV head
  const float* q = nullptr;  // [n_tokens, q_stride], at the first query head of this KV head
  int64_t q_stride = 0;
  float* out = nullptr;  // same shape as q; written when the item covers all units of its queries
  int64_t out_stride = 0;
  int n_tokens = 0;        // query tokens; n_queries = n_tokens * gqa_group
  int first_position = 0;  // of the first query token; the others follow
  int unit_begin = 0, unit_end = 0;
  // [unit_end - unit_begin][n_queries][attention_state_elems()]: of each unit, written instead of
  // `out` when not null.
  float* partials = nullptr;
  float* scratch = nullptr;  // attention_scratch_elems() floats of the calling thread
};

struct OpTable {
  // out[n] = x / sqrt(mean(x^2) + epsilon) * weight. RMSNorm (Zhang and Sennrich 2019). out may be x.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* out);
  // Rotates the first rotary_dim elements of `head` in place; cos_sin[2][rotary_dim / 2], the cosines first. Pairs as
  // RopeStyle says.
  void (*rope_norm)(float* head, const float* cos_sin, int rotary_dim);
  void (*rope_neox)(float* head, const float* cos_sin, int rotary_dim);
  // Writes one token's keys and values, k and v [n_kv_heads, head_dim], at place `offset` of a page.
  void (*store_kv)(const float* k, const float* v, const KvLayout& layout, uint16_t* page, int offset);
  void (*attend)(const AttentionItem& item);
  // out[n_queries, head_dim] from the partials of n_units units of every query of one (sequence, KV head), in order.
  // Units past a query's position are marked by sum 0 and change nothing.
  void (*merge_attention)(const AttentionItem& item, const float* partials, int n_units);
  // gate = silu(gate) * up. SwiGLU (Shazeer 2020).
  void (*silu_multiply)(float* gate, const float* up, int n);
};

// Floats of scratch memory that attend() needs for an item of n_queries queries.
size_t attention_scratch_elems(int n_queries, int head_dim);

const OpTable& op_table(Isa isa);

}  // namespace spate::cpu
