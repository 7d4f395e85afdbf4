// Runs requests on an executor: admits them, plans steps, keeps up to two in flight, turns what comes back into text
// and ends each request by its rules.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <unordered_map>

#include "engine/request.h"
#include "engine/scheduler.h"
#include "text/tokenizer.h"

namespace spate {

struct EngineOptions {
  int vocab_size = 0;
  int context_tokens = 0;   // of one request, prompt and generated together; the KV pool may hold less
  int max_step_tokens = 0;  // budget of a step; 0, or more than the executor takes: what it takes
  int max_steps_in_flight = kMaxStepsInFlight;  // 1 or 2
  // Keep the KV of the request that ended last, for one that begins with the same tokens: a conversation's next turn.
  bool retain_last = false;
};

// Single-threaded: one thread submits, cancels and steps. The executor does its work elsewhere, or in wait().
class Engine {
 public:
  // executor outlives this, and nobody else enqueues on it. tokenizer outlives this; null: token ids only, no text, no
  // stop strings, and only the request's own stop tokens end generation.
  Engine(Executor& executor, const Tokenizer* tokenizer, const EngineOptions& options);
  // Waits for the steps in flight; sinks are not called any more.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request. Its output goes to the sink, from later calls of step() and cancel(). Error kUsage,
  // kOutOfResources: it can never run as it is; kBackend, kIo: the executor has failed. The sink is not called then.
  Result<RequestId> submit(Request request, OutputSink sink);

  // Ends a request with FinishReason::kCancelled. False: it has ended already, or never was.
  bool cancel(RequestId id);

  // Enqueues one step if there is something to run, then waits for the oldest one if as many as allowed are in flight
  // or nothing could be enqueued. False: nothing is left to do.
  bool step();
  void run_until_idle();

  // Tokens that a request may have, prompt and generated: the option, or all that the KV pool holds.
  int context_tokens() const { return context_tokens_; }
  const Scheduler& scheduler() const { return scheduler_; }
  int n_steps_in_flight() const { return n_in_flight_; }

 private:
  struct Flight {
    StepPlan plan;
    StepId step = 0;
  };

  bool enqueue_next();
  void complete_oldest();
  void deliver(const StepPlan::Part& part, const StepPlan& plan, StepOutput& output);
  std::optional<Finish> accept(Sequence& sequence, RowOutput& row, OutputDelta& delta) const;
  bool is_end_token(const Sequence& sequence, int32_t token) const;
  void finish(std::shared_ptr<Sequence> sequence, const OutputDelta& delta);
  void fail_all(const Error& error);
  void drain();

  Executor& executor_;
  const Tokenizer* tokenizer_;
  EngineOptions options_;
  int context_tokens_;
  Scheduler scheduler_;
  std::unordered_map<RequestId, std::shared_ptr<Sequence>> sequences_;  // waiting and running
  RequestId last_id_ = 0;
  std::array<Flight, kMaxStepsInFlight> flights_;  // a ring
  int oldest_flight_ = 0;
  int n_in_flight_ = 0;
  bool stepping_ = false;
  std::optional<Error> failure_;  // of the executor, for good
};

}  // namespace spate
