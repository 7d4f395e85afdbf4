// The host's part of sampling a step: which rows are sampled together, when tokens are counted, where results lie.
#include <algorithm>
#include <cstring>

#include "backend/cuda/sampling.h"
#include "base/check.h"

namespace spate::cuda {
namespace {

constexpr int kWordsPerResult = sizeof(RowResult) / 4;
constexpr int kWordsPerLogprob = sizeof(TokenLogprob) / 4;

// What a row needs in the output block beside its RowResult, in units of 4 bytes.
int64_t extra_words(const Row& row, int vocab_size, int d_model) {
  if (row.kind == RowKind::kHidden) return d_model;
  return int64_t{kWordsPerLogprob} * std::min(row.n_logprobs, vocab_size);
}

int32_t position_of(const StepBatch& batch, int seq, int token_index) {
  return batch.kv_len[seq] - batch.q_start[seq + 1] + token_index;
}

// Fills the specs; whether every row needs no more than the arg-max of the model's logits, and the size of the output.
void plan_specs(const StepBatch& batch, const SlotTable& slots, int d_model, std::span<RowSpec> rows, RowPlan& plan) {
  plan.path = SamplingPath::kGreedy;
  int64_t words = int64_t{kWordsPerResult} * batch.n_rows();
  for (int r = 0, s = 0; r < batch.n_rows(); ++r) {
    const Row& row = batch.rows[r];
    while (batch.q_start[s + 1] <= row.token_index) ++s;
    rows[r] = {.token_index = row.token_index,
               .slot = row.slot,
               .kind = static_cast<int32_t>(row.kind),
               .target = row.target,
               .n_logprobs = row.kind == RowKind::kHidden ? 0 : std::min(row.n_logprobs, slots.vocab_size()),
               .position = position_of(batch, s, row.token_index) + 1,
               .output_offset = static_cast<int32_t>(words)};
    const bool draws = row.kind == RowKind::kSample && !slots.is_plain_greedy(row.slot);
    if (draws || rows[r].n_logprobs > 0) plan.path = SamplingPath::kFull;
    words += extra_words(row, slots.vocab_size(), d_model);
    SPATE_CHECK(words <= INT32_MAX, "the rows of a step leave {} words", words);
  }
  plan.output_bytes = 4 * words;
}

void plan_slices(std::span<const Row> rows, int max_slice_rows, std::vector<RowSlice>& slices) {
  slices.clear();
  for (int r = 0; r < static_cast<int>(rows.size()); ++r) {
    const bool hidden = rows[r].kind == RowKind::kHidden;
    // Rows of a slot stand together, since those of a sequence do.
    const bool slot_repeats = r > 0 && rows[r].kind == RowKind::kSample && rows[r - 1].slot == rows[r].slot;
    if (slices.empty() || slices.back().n == max_slice_rows || slices.back().hidden != hidden || slot_repeats)
      slices.push_back({.first = r, .n = 0, .hidden = hidden});
    ++slices.back().n;
  }
  SPATE_CHECK(slices.size() < INT16_MAX, "{} slices of rows", slices.size());
}

// A token is counted before the slice of the first drawn row at or behind it in its sequence.
void plan_counts(const StepBatch& batch, const SlotTable& slots, std::span<TokenCount> counts, RowPlan& plan) {
  const auto n_slices = static_cast<int16_t>(plan.slices.size());
  plan.counts = plan.has_tail = false;
  std::fill(counts.begin(), counts.end(), TokenCount{});
  int r = 0, slice = 0;
  for (int s = 0; s < batch.n_seqs(); ++s) {
    const int32_t slot = batch.slot[s];
    const bool counted = slots.has_penalties(slot);
    bool draws = false;
    int t = batch.q_start[s];
    const auto count_until = [&](int end, int16_t before_slice) {
      for (; t < end; ++t)
        counts[t] = {.slot = slot,
                     .slice = before_slice,
                     .generated = static_cast<int16_t>(position_of(batch, s, t) >= slots.n_prompt_tokens(slot))};
    };
    for (; r < batch.n_rows() && batch.rows[r].token_index < batch.q_start[s + 1]; ++r) {
      while (r >= plan.slices[slice].first + plan.slices[slice].n) ++slice;
      if (!counted || batch.rows[r].kind != RowKind::kSample) continue;
      draws = true;
      count_until(batch.rows[r].token_index + 1, static_cast<int16_t>(slice));
    }
    if (!counted) continue;
    plan.counts = true;
    plan.has_tail |= draws && t < batch.q_start[s + 1];
    count_until(batch.q_start[s + 1], draws ? n_slices : int16_t{0});
  }
}

}  // namespace

void plan_rows(const StepBatch& batch, const SlotTable& slots, int max_slice_rows, int d_model, std::span<RowSpec> rows,
               std::span<TokenCount> counts, RowPlan& plan) {
  SPATE_CHECK(max_slice_rows > 0 && rows.size() >= batch.rows.size() && counts.size() >= batch.tokens.size(),
              "{} rows and {} tokens planned in {} and {}, {} a slice", batch.n_rows(), batch.n_tokens(), rows.size(),
              counts.size(), max_slice_rows);
  plan_specs(batch, slots, d_model, rows, plan);
  plan_slices(batch.rows, max_slice_rows, plan.slices);
  plan_counts(batch, slots, counts, plan);
}

int64_t max_output_bytes(int max_rows, int max_hidden_rows, int d_model) {
  const int64_t row_words = kWordsPerResult + kWordsPerLogprob * kMaxLogprobs;
  return 4 * (row_words * max_rows + int64_t{max_hidden_rows} * d_model);
}

void read_rows(std::span<const Row> rows, const std::byte* output, int vocab_size, int d_model,
               std::vector<RowOutput>& out) {
  out.resize(rows.size());
  int64_t words = int64_t{kWordsPerResult} * static_cast<int64_t>(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    RowResult result{};
    std::memcpy(&result, output + r * sizeof(result), sizeof(result));
    const std::byte* extra = output + 4 * words;
    const int64_t n_words = extra_words(rows[r], vocab_size, d_model);
    out[r].token = result.token;
    out[r].logprob = result.logprob;
    out[r].top.clear();
    out[r].hidden.clear();
    if (rows[r].kind == RowKind::kHidden) {
      out[r].hidden.resize(n_words);
      std::memcpy(out[r].hidden.data(), extra, 4 * n_words);
    } else if (n_words > 0) {
      out[r].top.resize(n_words / kWordsPerLogprob);
      std::memcpy(out[r].top.data(), extra, 4 * n_words);
    }
    words += n_words;
  }
}

}  // namespace spate::cuda
