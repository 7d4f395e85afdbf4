// Which sequences run in the next step, and with how many tokens. Owns the KV pages and the slots; knows lengths, never
// the tokens that are still on the device.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "engine/page_pool.h"
#include "engine/retained_kv.h"
#include "engine/sequence.h"

namespace spate {

// A step, and where each sequence's results will be in its output.
struct StepPlan {
  struct Part {
    std::shared_ptr<Sequence> sequence;
    int32_t first_row, n_rows;  // of the batch
    int32_t kv_len;             // of the sequence, once the step has run
  };
  StepBatch batch;
  std::vector<Part> parts;  // [S], in the batch's order

  void clear();
};

// The policy, in order:
// 1. Every running sequence past its prompt decodes one token: nobody who is reading waits for somebody else's prompt.
// 2. What is left of the step's token budget goes to prompts begun earlier, oldest first, in chunks as large as it
//    allows; then to new sequences, first come, first served, as long as they can be admitted.
// 3. A sequence is admitted when a slot is free and the pool can give it every page that it may ever need, besides what
//    was promised to those running. It takes the pages as it grows. So a running sequence can always finish, and the
//    first in line, which alone fits the pool (Engine::submit refuses it otherwise), gets its turn when enough others
//    have finished.
// 4. Where asked, the keys of the sequence that ended last are retained. A new one that begins with the same tokens
// takes
//    them over and runs only the rest of its prompt. When the pool is short, they go first.
class Scheduler {
 public:
  // max_step_tokens: the budget of a step, at least 1 and at most the executor's. No more sequences run than that, so
  // that rule 1 always holds.
  Scheduler(const ExecutorLimits& limits, int max_step_tokens, bool retain_last = false);

  void add(std::shared_ptr<Sequence> sequence);
  // Takes a waiting or running sequence out. Its pages and slot return once the steps that name them have completed.
  void remove(Sequence& sequence);

  // Fills `plan` with the next step; false: there is nothing to run before a step in flight has completed.
  bool plan(StepPlan& plan);
  // The plan made last was enqueued.
  void enqueued(const StepPlan& plan, StepId step);
  void completed(StepId step);

  bool has_work() const { return !waiting_.empty() || !running_.empty(); }
  const std::deque<std::shared_ptr<Sequence>>& waiting() const { return waiting_; }
  const std::vector<std::shared_ptr<Sequence>>& running() const { return running_; }  // oldest first
  const PagePool& pages() const { return pages_; }
  const SlotPool& slots() const { return slots_; }
  const RetainedKv& retained() const { return retained_; }
  // Prompt tokens in the steps planned so far: what was computed, and not taken over.
  int64_t n_prompt_tokens_run() const { return n_prompt_tokens_run_; }
  // Gives the retained pages back.
  void drop_retained();

 private:
  bool make_room(const Sequence& sequence);
  int n_reusable(const Sequence& sequence) const;
  void admit_first(StepPlan& plan);
  void take_over_retained(Sequence& sequence);
  void retain(Sequence& sequence);
  void add_part(StepPlan& plan, const std::shared_ptr<Sequence>& sequence, int n_tokens);
  void add_tokens(StepBatch& batch, const Sequence& sequence, int n_tokens) const;
  void add_rows(StepBatch& batch, Sequence& sequence, int n_tokens) const;

  int max_step_tokens_;
  int max_running_;
  std::deque<std::shared_ptr<Sequence>> waiting_;
  std::vector<std::shared_ptr<Sequence>> running_;
  PagePool pages_;
  SlotPool slots_;
  int n_pages_promised_ = 0;  // to running sequences, not yet taken
  StepId last_enqueued_ = 0, last_completed_ = 0;
  bool retain_last_;
  RetainedKv retained_;
  int64_t n_prompt_tokens_run_ = 0;
};

}  // namespace spate
