// Which sequences run in the next step, and with how many tokens. Owns the KV pages and the slots; knows lengths, never
// the tokens that are still on the device.
#pragma once

#include <memory>
#include <vector>

#include "engine/id_pool.h"
#include "engine/kv_pages.h"
#include "engine/sequence.h"
#include "engine/step_times.h"

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
  int n_decodes = 0;        // tokens that decode; the others are of prompts

  void clear();
  int n_prompt_tokens() const { return batch.n_tokens() - n_decodes; }
};

struct SchedulerOptions {
  int max_step_tokens = 0;        // at least 1 and at most the executor's
  double max_decode_stretch = 0;  // rule 2; 0: no bound
  KvReuse kv_reuse = KvReuse::kSharedPrefix;
};

// What the scheduler has counted since it began; EngineStats says what of.
struct SchedulerCounts {
  uint64_t n_prompt_tokens = 0, n_cached_tokens = 0, n_prefill_tokens = 0;
  uint64_t n_prefix_lookups = 0, n_prefix_hits = 0, n_preemptions = 0;
};

// The policy. All sequences stand in one order, their rank: the time of submission, less a head start for each level of
// priority. So within a priority the first to come is the first served, a higher one overtakes those that came a little
// before it, and nobody is overtaken for ever.
//
// 1. Every running sequence past its prompt decodes one token in every step.
// 2. The rest of the step's token budget goes to prompts: all of it when nobody decodes, otherwise as much as lets them
//    get on fastest while the step, as StepTimes predicts it, stays within max_decode_stretch times a step without.
// 3. Half of that goes to the first in order, so that a long prompt gets on, and the rest to those that need the least
//    to be done, so that nobody waits for somebody else's long prompt.
// 4. A new sequence is admitted when there is a slot, and pages for what it is known to need now: its tokens and one
//    more, less what it shares with the prefix cache, besides what admitted prompts still need and a page for each that
//    runs. Preempted ones come first, then by rank; who does not fit yet holds up those behind.
// 5. A sequence that decodes into a new page takes a free one, or the least recently used that is only cached. Where
//    there is none, and none comes back with the steps in flight, the last in order of those running is preempted: it
//    gives all its pages back, and runs again over the tokens it has when there is room. So the first in order always
//    gets on, and alone it fits the pool (Engine::submit refuses it otherwise).
// 6. Choices of one request wait until the first has run the prompt, and share its pages.
class Scheduler {
 public:
  Scheduler(const ExecutorLimits& limits, const SchedulerOptions& options);

  void add(std::shared_ptr<Sequence> sequence);
  // Takes a waiting or running sequence out. Its pages and slot return once the steps that name them have completed.
  void remove(Sequence& sequence);

  // Fills `plan` with the next step; false: there is nothing to run before a step in flight has completed.
  bool plan(StepPlan& plan);
  // The plan made last was enqueued.
  void enqueued(const StepPlan& plan, StepId step);
  // It took so long.
  void completed(const StepPlan& plan, StepId step, double seconds);

  bool has_work() const { return !waiting_.empty() || !running_.empty(); }
  const std::vector<std::shared_ptr<Sequence>>& waiting() const { return waiting_; }  // in the order of rule 4
  const std::vector<std::shared_ptr<Sequence>>& running() const { return running_; }  // by rank
  int n_preempted() const;                                                            // of those that wait
  const KvPages& pages() const { return pages_; }
  const IdPool& slots() const { return slots_; }
  const SchedulerCounts& counts() const { return counts_; }
  const StepTimes& times() const { return times_; }

 private:
  struct Prompt {
    std::shared_ptr<Sequence> sequence;
    int n_left = 0;   // tokens to run before its first draw
    int n_given = 0;  // of these, in this step
  };
  void plan_decodes(StepPlan& plan);
  bool get_next_page(Sequence& sequence, int& n_claimed);
  void plan_prompts(StepPlan& plan);
  std::vector<Prompt> prompts() const;
  void add_waiting_prompts(std::vector<Prompt>& prompts) const;
  bool is_ready(const Sequence& sequence) const;
  bool admit(StepPlan& plan, const std::shared_ptr<Sequence>& sequence);
  void preempt(std::shared_ptr<Sequence> sequence);
  void publish(Sequence& sequence);
  void give_back(Sequence& sequence);

  void add_part(StepPlan& plan, const std::shared_ptr<Sequence>& sequence, int n_tokens);
  void add_tokens(StepBatch& batch, const Sequence& sequence, int n_tokens) const;
  void add_rows(StepBatch& batch, Sequence& sequence, int n_tokens) const;

  SchedulerOptions options_;
  int max_running_;
  std::vector<std::shared_ptr<Sequence>> waiting_;
  std::vector<std::shared_ptr<Sequence>> running_;
  KvPages pages_;
  IdPool slots_;
  StepTimes times_;
  StepId last_enqueued_ = 0, last_completed_ = 0;
  SchedulerCounts counts_;
};

}  // namespace spate
