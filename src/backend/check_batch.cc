#include <algorithm>
#include <cmath>

#include "backend/executor.h"
#include "base/check.h"

namespace spate {
namespace {

void check_token(int32_t token, int vocab_size, const char* what) {
  SPATE_CHECK(token >= 0 && token < vocab_size, "{} {} of a vocabulary of {}", what, token, vocab_size);
}

// Negative, infinite or NaN values have no meaning here.
void check_at_least(float value, float min, const char* what) {
  SPATE_CHECK(std::isfinite(value) && value >= min, "{} = {}", what, value);
}

void check_slot_op(const SlotOp& op, const ExecutorLimits& limits, int vocab_size) {
  SPATE_CHECK(op.slot >= 0 && op.slot < limits.max_seqs, "slot {} of {}", op.slot, limits.max_seqs);
  const SamplingParams& sampling = op.sampling;
  SPATE_CHECK(std::isfinite(sampling.repetition_penalty) && sampling.repetition_penalty > 0, "repetition_penalty = {}",
              sampling.repetition_penalty);
  SPATE_CHECK(std::isfinite(sampling.presence_penalty) && std::isfinite(sampling.frequency_penalty));
  check_at_least(sampling.temperature, 0, "temperature");
  check_at_least(sampling.typical_p, 0, "typical_p");
  check_at_least(sampling.top_p, 0, "top_p");
  check_at_least(sampling.min_p, 0, "min_p");
  SPATE_CHECK(sampling.min_p <= 1, "min_p = {}", sampling.min_p);
  SPATE_CHECK(sampling.top_k >= 0, "top_k = {}", sampling.top_k);
  SPATE_CHECK(op.logit_bias.size() <= kMaxLogitBias, "{} biased tokens", op.logit_bias.size());
  for (const LogitBias& bias : op.logit_bias) {
    check_token(bias.token, vocab_size, "biased token");
    SPATE_CHECK(!std::isnan(bias.bias), "bias of token {}", bias.token);
  }
  SPATE_CHECK(op.n_prompt_tokens >= 0, "n_prompt_tokens = {}", op.n_prompt_tokens);
  for (const int32_t token : op.history) check_token(token, vocab_size, "history token");
}

void check_tokens(const StepBatch& batch, const ExecutorLimits& limits, int vocab_size) {
  SPATE_CHECK(batch.n_tokens() >= 1 && batch.n_tokens() <= limits.max_step_tokens, "{} tokens in a step of at most {}",
              batch.n_tokens(), limits.max_step_tokens);
  SPATE_CHECK(batch.from_row.size() == batch.tokens.size());
  for (int t = 0; t < batch.n_tokens(); ++t) {
    SPATE_CHECK(batch.from_row[t] >= -1, "from_row[{}] = {}", t, batch.from_row[t]);
    if (batch.from_row[t] < 0) check_token(batch.tokens[t], vocab_size, "token");
  }
}

void check_sequences(const StepBatch& batch, const ExecutorLimits& limits) {
  const int n_seqs = batch.n_seqs();
  SPATE_CHECK(n_seqs >= 1 && n_seqs <= limits.max_seqs, "{} sequences of at most {}", n_seqs, limits.max_seqs);
  SPATE_CHECK(batch.q_start.size() == batch.slot.size() + 1 && batch.kv_len.size() == batch.slot.size());
  SPATE_CHECK(batch.q_start.front() == 0 && batch.q_start.back() == batch.n_tokens());
  std::vector<bool> slot_used(limits.max_seqs);
  for (int s = 0; s < n_seqs; ++s) {
    const int32_t slot = batch.slot[s];
    SPATE_CHECK(slot >= 0 && slot < limits.max_seqs, "slot {} of {}", slot, limits.max_seqs);
    SPATE_CHECK(!slot_used[slot], "slot {} twice in a step", slot);
    slot_used[slot] = true;
    const int32_t n_queries = batch.q_start[s + 1] - batch.q_start[s];
    SPATE_CHECK(n_queries >= 1, "slot {} brings {} tokens", slot, n_queries);
    SPATE_CHECK(batch.kv_len[s] >= n_queries, "slot {}: kv_len {} with {} new tokens", slot, batch.kv_len[s],
                n_queries);
  }
}

// Pages may be shared for reading, but a page that this step writes is listed once in the whole step.
void check_pages(const StepBatch& batch, const PageTable& table, const ExecutorLimits& limits) {
  const int n_seqs = batch.n_seqs();
  SPATE_CHECK(table.start.size() == batch.slot.size() + 1 && table.start.front() == 0 &&
              table.start.back() == static_cast<int32_t>(table.pages.size()));
  std::vector<uint8_t> times_listed(limits.n_pages);
  for (const int32_t page : table.pages) {
    SPATE_CHECK(page >= 0 && page < limits.n_pages, "page {} of {}", page, limits.n_pages);
    times_listed[page] = static_cast<uint8_t>(std::min(times_listed[page] + 1, 2));
  }
  for (int s = 0; s < n_seqs; ++s) {
    const int n_listed = table.start[s + 1] - table.start[s];
    const int32_t kv_len = batch.kv_len[s];
    SPATE_CHECK(n_listed >= 0 && int64_t{n_listed} * kPageTokens >= kv_len, "slot {}: {} pages for {} tokens",
                batch.slot[s], n_listed, kv_len);
    const int32_t first_written = kv_len - (batch.q_start[s + 1] - batch.q_start[s]);
    for (int i = first_written / kPageTokens; i * kPageTokens < kv_len; ++i) {
      const int32_t page = table.pages[table.start[s] + i];
      SPATE_CHECK(times_listed[page] == 1, "page {}, written by slot {}, is listed twice", page, batch.slot[s]);
    }
  }
}

void check_rows(const StepBatch& batch, int vocab_size) {
  int s = 0;
  int32_t previous = 0;
  for (const Row& row : batch.rows) {
    SPATE_CHECK(row.token_index >= previous && row.token_index < batch.n_tokens(), "row of token {} after that of {}",
                row.token_index, previous);
    previous = row.token_index;
    while (batch.q_start[s + 1] <= row.token_index) ++s;
    SPATE_CHECK(row.slot == batch.slot[s], "row of slot {} for a token of slot {}", row.slot, batch.slot[s]);
    SPATE_CHECK(row.n_logprobs >= 0 && row.n_logprobs <= kMaxLogprobs, "n_logprobs = {}", row.n_logprobs);
    if (row.kind == RowKind::kScore) check_token(row.target, vocab_size, "target");
  }
}

}  // namespace

void check_batch(const StepBatch& batch, const ExecutorLimits& limits, int vocab_size) {
  for (const SlotOp& op : batch.slot_ops) check_slot_op(op, limits, vocab_size);
  check_tokens(batch, limits, vocab_size);
  check_sequences(batch, limits);
  SPATE_CHECK(batch.groups.size() == 1, "{} groups of layers", batch.groups.size());
  for (const PageTable& table : batch.groups) check_pages(batch, table, limits);
  check_rows(batch, vocab_size);
}

}  // namespace spate
