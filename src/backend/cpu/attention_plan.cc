#include "backend/cpu/attention_plan.h"

#include <algorithm>

namespace spate::cpu {

namespace {

// The running softmax of 32 queries of 128 elements takes 33 kB with its totals: the first-level cache, more or less.
constexpr int kBlockQueries = 32;

int block_tokens(int gqa_group) {
  return std::max(1, kBlockQueries / gqa_group);
}

int n_units(int kv_len) {
  return (kv_len + kAttentionUnitTokens - 1) / kAttentionUnitTokens;
}

int64_t state_elems(int gqa_group, int head_dim) {
  return static_cast<int64_t>(gqa_group) * attention_state_elems(head_dim);
}

}  // namespace

int AttentionPlan::max_queries(int gqa_group) {
  return block_tokens(gqa_group) * gqa_group;
}

size_t AttentionPlan::max_partials_elems(int n_pages, int gqa_group, int head_dim, int n_threads) {
  // Keys are split only while (sequence, KV head) pairs are fewer than 2 n_threads.
  return static_cast<size_t>(2) * n_threads * n_units(n_pages * kPageTokens) * state_elems(gqa_group, head_dim);
}

void AttentionPlan::make(const StepBatch& batch, int n_kv_heads, int gqa_group, int head_dim, int n_threads) {
  works.clear();
  merges.clear();
  const int tokens_a_block = block_tokens(gqa_group);
  const bool all_decode = batch.n_tokens() == batch.n_seqs();
  const bool split_keys = all_decode && n_threads > 1 && batch.n_seqs() * n_kv_heads < 2 * n_threads;
  int64_t partials = 0;
  for (int seq = 0; seq < batch.n_seqs(); ++seq) {
    const int begin = batch.q_start[seq], end = batch.q_start[seq + 1], units = n_units(batch.kv_len[seq]);
    for (int kv_head = 0; kv_head < n_kv_heads; ++kv_head) {
      if (split_keys && units > 1) {
        merges.push_back({.seq = seq, .kv_head = kv_head, .n_units = units, .partials = partials});
        for (int unit = 0; unit < units; ++unit, partials += state_elems(gqa_group, head_dim))
          works.push_back({.seq = seq,
                           .kv_head = kv_head,
                           .first_token = begin,
                           .n_tokens = 1,
                           .unit_begin = unit,
                           .unit_end = unit + 1,
                           .partials = partials});
        continue;
      }
      // The last blocks see the most keys: they start first, so that no thread is left with a long one at the end.
      for (int first = begin + (end - begin - 1) / tokens_a_block * tokens_a_block; first >= begin;
           first -= tokens_a_block)
        works.push_back({.seq = seq,
                         .kv_head = kv_head,
                         .first_token = first,
                         .n_tokens = std::min(tokens_a_block, end - first),
                         .unit_begin = 0,
                         .unit_end = units});
    }
  }
}

}  // namespace spate::cpu
