// What executors that run on the host share: a thread of their own that runs the steps in order, two in flight, and
// everything about a step but its layers: tokens handed from one step to the next, slots, sampling. A backend derives
// from it and supplies the layers.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "backend/executor.h"
#include "backend/sampler.h"
#include "backend/step_progress.h"

namespace spate {

class HostExecutor : public Executor, public StepProgress {
 public:
  ~HostExecutor() override;

  const ExecutorLimits& limits() const override { return limits_; }
  StepId enqueue(const StepBatch& batch) override;
  Result<StepOutput> wait(StepId step) override;
  uint64_t progress() const override { return progress_.load(std::memory_order_relaxed); }

 protected:
  // sampling_threads: how many threads parallel_rows() may call back from.
  HostExecutor(const ExecutorLimits& limits, int vocab_size, int d_model, int sampling_threads);

  // A derived class starts the step thread once it is whole, and stops it first thing in its destructor.
  void start();
  void stop();

  // On the step thread: a part of a step is done. run_layers() says so after each layer.
  void note_progress() { progress_.fetch_add(1, std::memory_order_relaxed); }

  // On the step thread. Runs all layers for `tokens` [T] (with from_row resolved), writes keys and values to the
  // batch's pages, and keeps the final hidden state, after the last norm, of each of the batch's rows until the next
  // call.
  virtual Result<void> run_layers(const StepBatch& batch, std::span<const int32_t> tokens) = 0;
  // [n_rows, d_model], of the last run_layers().
  virtual const float* row_hidden() const = 0;
  // logits[n, vocab_size] of rows [first, first + n) of the last run_layers().
  virtual void row_logits(int first, int n, float* logits) = 0;
  // Calls fn(thread, row) for rows [0, n), on up to sampling_threads threads.
  virtual void parallel_rows(int n, const std::function<void(int thread, int row)>& fn) = 0;

 private:
  struct Step {
    StepId id = 0;
    StepBatch batch;
    std::optional<Result<StepOutput>> result;  // set when it has run
  };

  void run_steps();
  Result<StepOutput> run_step(const StepBatch& batch);
  void load_slots(const StepBatch& batch);
  void sample(const StepBatch& batch, StepOutput& output);
  int64_t position_of(const StepBatch& batch, int token_index) const;

  ExecutorLimits limits_;
  int vocab_size_, d_model_, logits_rows_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Step, kMaxStepsInFlight> steps_;  // of step id, at id % kMaxStepsInFlight
  StepId enqueued_ = 0, completed_ = 0, waited_ = 0;
  bool stopping_ = false;
  std::atomic<uint64_t> progress_ = 0;
  std::thread thread_;

  // The step thread's own.
  std::vector<SlotState> slots_;          // [max_seqs]
  std::vector<int32_t> previous_tokens_;  // of the rows of the step before
  std::vector<int32_t> tokens_;           // [T]
  std::vector<int32_t> seq_of_token_;     // [T]
  std::vector<float> logits_;             // [logits_rows_, vocab_size]
  std::vector<SamplerScratch> scratch_;   // one a sampling thread
  std::optional<Error> failure_;          // once a step has failed, every later one fails alike
};

}  // namespace spate
