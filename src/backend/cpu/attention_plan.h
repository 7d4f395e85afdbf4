// How the attention of a step is shared out: which queries meet which keys in one work item.
#pragma once

#include <vector>

#include "backend/cpu/ops.h"
#include "backend/executor.h"

namespace spate::cpu {

struct AttentionWork {
  int seq;  // into the batch
  int kv_head;
  int first_token, n_tokens;  // of the step
  int unit_begin, unit_end;   // of kAttentionUnitTokens keys
  int64_t partials =
      -1;  // offset in floats of its units' partial results; -1: it covers all keys and writes its output
};

// Partial results of one (sequence, KV head) that several items share out, to be merged in order.
struct AttentionMerge {
  int seq;
  int kv_head;
  int n_units;
  int64_t partials;
};

struct AttentionPlan {
  std::vector<AttentionWork> works;
  std::vector<AttentionMerge> merges;

  // Prompt tokens are cut into blocks of about kBlockQueries queries. A decode with a long context is cut along the
  // keys too, where there would otherwise be fewer items than two a thread.
  void make(const StepBatch& batch, int n_kv_heads, int gqa_group, int head_dim, int n_threads);

  // Floats of partial results that any step may need.
  static size_t max_partials_elems(int n_pages, int gqa_group, int head_dim, int n_threads);
  // Queries of one work item at most.
  static int max_queries(int gqa_group);
};

}  // namespace spate::cpu
