// An executor without a model: it keeps, for every cell of every KV page, which token was written there and behind
// which others, as keys and values depend on both, and draws tokens from what it reads back. Anything that the engine
// gets wrong about pages, slots, lengths or order is a test failure here, or gives other tokens than the sequence would
// get alone.
#pragma once

#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/executor.h"

namespace spate::testing {

// What the fake device draws after `context`, and what it says of tokens; functions of their arguments alone.
using DrawFunction = std::function<int32_t(std::span<const int32_t> context, const SamplingParams&)>;

// The multiplier of splitmix64, one round a token.
inline uint64_t hash_token(uint64_t hash, int32_t token) {
  hash = (hash ^ static_cast<uint64_t>(token)) * 0xBF58476D1CE4E5B9ull;
  return hash ^ (hash >> 29);
}

inline uint64_t hash_tokens(std::span<const int32_t> tokens, uint64_t seed = 0) {
  uint64_t hash = seed ^ 0x9E3779B97F4A7C15ull;
  for (const int32_t token : tokens) hash = hash_token(hash, token);
  return hash;
}

inline DrawFunction hashed_draw(int vocab_size) {
  return [vocab_size](std::span<const int32_t> context, const SamplingParams& sampling) {
    return static_cast<int32_t>(hash_tokens(context, sampling.seed) % static_cast<uint64_t>(vocab_size));
  };
}

// [4]: hidden states after `context`.
inline std::vector<float> fake_hidden(std::span<const int32_t> context) {
  std::vector<float> hidden(4);
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = static_cast<float>(hash_tokens(context, i) % 1024) / 1024;
  return hidden;
}

inline float fake_logprob(std::span<const int32_t> context, int32_t token) {
  return -1.0f - static_cast<float>(hash_tokens(context, token) % 1000) / 100;
}

class FakeExecutor : public Executor {
 public:
  FakeExecutor(const ExecutorLimits& limits, int vocab_size)
      : draw(hashed_draw(vocab_size)),
        limits_(limits),
        vocab_size_(vocab_size),
        host_generation_(limits.max_seqs),
        slots_(limits.max_seqs),
        cells_(static_cast<size_t>(limits.n_pages) * kPageTokens) {}

  ~FakeExecutor() override { EXPECT_TRUE(queue_.empty()) << queue_.size() << " steps were never waited for"; }

  DrawFunction draw;
  std::optional<StepId> fail_at;                     // this step's wait() and all later ones fail
  std::function<void(const StepBatch&)> on_enqueue;  // looks at each batch
  std::function<void(const StepBatch&)> on_wait;     // and again when it runs

  const ExecutorLimits& limits() const override { return limits_; }
  std::string description() const override { return "fake"; }
  int n_in_flight() const { return static_cast<int>(queue_.size()); }
  StepId n_enqueued() const { return last_step_; }

  StepId enqueue(const StepBatch& batch) override {
    check_batch(batch, limits_, vocab_size_);
    EXPECT_LT(n_in_flight(), kMaxStepsInFlight);
    if (on_enqueue) on_enqueue(batch);
    Step step{.id = ++last_step_, .batch = batch, .generation = {}};
    for (const SlotOp& op : batch.slot_ops) {
      for (const Step& running : queue_)
        for (const int32_t slot : running.batch.slot)
          EXPECT_NE(slot, op.slot) << "slot " << slot << " is reset while step " << running.id << " uses it";
      host_generation_[op.slot] = ++last_generation_;
    }
    for (const int32_t slot : batch.slot) step.generation.push_back(host_generation_[slot]);
    expect_written_pages_not_in_flight_elsewhere(step);
    expect_from_row_names_own_draws(batch);
    previous_rows_ = batch.rows;
    queue_.push_back(std::move(step));
    return last_step_;
  }

  Result<StepOutput> wait(StepId id) override {
    EXPECT_FALSE(queue_.empty());
    EXPECT_EQ(queue_.front().id, id) << "steps are waited for in order";
    const Step step = std::move(queue_.front());
    queue_.pop_front();
    if (on_wait) on_wait(step.batch);
    if (fail_at && id >= *fail_at) return Error::backend("the fake device fell off the bus");
    return run(step);
  }

 private:
  struct Step {
    StepId id;
    StepBatch batch;
    std::vector<uint64_t> generation;  // [S] which sequence, of all that ever held the slot
  };
  struct Cell {
    int32_t position = -1;
    int32_t token = -1;
    uint64_t context = 0;  // hash of the tokens up to and including this one
  };
  struct Slot {
    uint64_t generation = 0;
    SlotOp op;
    std::vector<int32_t> tokens;  // all that ran
    uint64_t context = 0;         // their hash
  };

  static std::span<const int32_t> pages_of(const StepBatch& batch, int s) {
    const PageTable& table = batch.groups[0];
    return std::span(table.pages).subspan(table.start[s], table.start[s + 1] - table.start[s]);
  }

  // A step may read what an earlier one in flight writes, as they run in order. It writes only what is its own.
  void expect_written_pages_not_in_flight_elsewhere(const Step& step) const {
    std::vector<uint64_t> user(limits_.n_pages, 0);
    for (const Step& running : queue_)
      for (int s = 0; s < running.batch.n_seqs(); ++s)
        for (const int32_t page : pages_of(running.batch, s)) user[page] = running.generation[s];
    for (int s = 0; s < step.batch.n_seqs(); ++s) {
      EXPECT_NE(step.generation[s], 0u) << "slot " << step.batch.slot[s] << " was never reset";
      const std::span<const int32_t> pages = pages_of(step.batch, s);
      const int32_t first_written = step.batch.kv_len[s] - (step.batch.q_start[s + 1] - step.batch.q_start[s]);
      for (const int32_t page : pages.subspan(static_cast<size_t>(first_written / kPageTokens))) {
        EXPECT_TRUE(user[page] == 0 || user[page] == step.generation[s])
            << "step " << step.id << " writes page " << page << " while a step in flight uses it for another sequence";
      }
    }
  }

  void expect_from_row_names_own_draws(const StepBatch& batch) const {
    for (int s = 0; s < batch.n_seqs(); ++s) {
      for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
        const int32_t row = batch.from_row[t];
        if (row < 0) continue;
        ASSERT_LT(row, static_cast<int>(previous_rows_.size()));
        EXPECT_EQ(previous_rows_[row].kind, RowKind::kSample);
        EXPECT_EQ(previous_rows_[row].slot, batch.slot[s]);
      }
    }
  }

  StepOutput run(const Step& step) {
    const StepBatch& batch = step.batch;
    for (const SlotOp& op : batch.slot_ops)
      slots_[op.slot] = {.generation = 0, .op = op, .tokens = op.history, .context = hash_tokens(op.history)};
    StepOutput output;
    size_t next_row = 0;
    for (int s = 0; s < batch.n_seqs(); ++s) {
      Slot& slot = slots_[batch.slot[s]];
      if (slot.generation == 0) slot.generation = step.generation[s];
      EXPECT_EQ(slot.generation, step.generation[s]);
      EXPECT_EQ(static_cast<int>(slot.tokens.size()), batch.kv_len[s] - (batch.q_start[s + 1] - batch.q_start[s]))
          << "step " << step.id << ", slot " << batch.slot[s] << ": positions do not follow";
      write_tokens(step, s, slot);
      const std::vector<int32_t> context = read_context(step, s);
      EXPECT_EQ(context, slot.tokens);
      for (; next_row < batch.rows.size() && batch.rows[next_row].token_index < batch.q_start[s + 1]; ++next_row) {
        const Row& row = batch.rows[next_row];
        const int32_t position = batch.kv_len[s] - (batch.q_start[s + 1] - row.token_index);
        output.rows.push_back(run_row(row, std::span(context).first(position + 1), slot.op.sampling));
      }
    }
    previous_output_ = output;
    return output;
  }

  void write_tokens(const Step& step, int s, Slot& slot) {
    const StepBatch& batch = step.batch;
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
      const int32_t row = batch.from_row[t];
      const int32_t token = row >= 0 ? previous_output_.rows.at(row).token : batch.tokens[t];
      const auto position = static_cast<int32_t>(slot.tokens.size());
      slot.tokens.push_back(token);
      slot.context = hash_token(slot.context, token);
      cell(pages_of(batch, s), position) = {position, token, slot.context};
    }
  }

  std::vector<int32_t> read_context(const Step& step, int s) {
    std::vector<int32_t> context;
    uint64_t hash = hash_tokens({});
    for (int32_t position = 0; position < step.batch.kv_len[s]; ++position) {
      const Cell& found = cell(pages_of(step.batch, s), position);
      context.push_back(found.token);
      hash = hash_token(hash, found.token);
      EXPECT_TRUE(found.position == position && found.context == hash)
          << "step " << step.id << ", slot " << step.batch.slot[s] << ": position " << position
          << " holds somebody else's keys";
    }
    return context;
  }

  Cell& cell(std::span<const int32_t> pages, int32_t position) {
    return cells_[static_cast<size_t>(pages[position / kPageTokens]) * kPageTokens + position % kPageTokens];
  }

  RowOutput run_row(const Row& row, std::span<const int32_t> context, const SamplingParams& sampling) const {
    RowOutput out;
    if (row.kind == RowKind::kHidden) {
      out.hidden = fake_hidden(context);
      return out;
    }
    out.token = draw(context, sampling);
    out.logprob = fake_logprob(context, row.kind == RowKind::kScore ? row.target : out.token);
    for (int32_t i = 0; i < row.n_logprobs; ++i) out.top.push_back({i, fake_logprob(context, i)});
    return out;
  }

  ExecutorLimits limits_;
  int vocab_size_;
  StepId last_step_ = 0;
  uint64_t last_generation_ = 0;
  std::vector<uint64_t> host_generation_;  // [max_seqs] as of the last step enqueued
  std::vector<Row> previous_rows_;
  std::deque<Step> queue_;
  std::vector<Slot> slots_;  // [max_seqs] as of the last step run
  std::vector<Cell> cells_;  // [n_pages * kPageTokens]
  StepOutput previous_output_;
};

}  // namespace spate::testing
