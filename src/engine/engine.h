// Runs requests on an executor: admits them, plans steps, keeps up to two in flight, turns what comes back into text
// and ends each request by its rules.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "engine/engine_stats.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "text/tokenizer.h"

namespace spate {

// See EngineOptions::max_decode_stretch; docs/decisions.md has why.
inline constexpr double kDefaultDecodeStretch = 3.5;

struct EngineOptions {
  int vocab_size = 0;
  int context_tokens = 0;   // of one request, prompt and generated together; the KV pool may hold less
  int max_step_tokens = 0;  // budget of a step; 0, or more than the executor takes: what it takes
  int max_steps_in_flight = kMaxStepsInFlight;  // 1 or 2
  KvReuse kv_reuse = KvReuse::kSharedPrefix;
  // While anyone decodes, as much of the prompts runs as keeps the step, by prediction, within this many times a step
  // of decodes alone; 0: as much as max_step_tokens allows.
  double max_decode_stretch = kDefaultDecodeStretch;
  // What a level of priority is worth: a request of priority p is served as if it had come p times this much earlier.
  std::chrono::milliseconds priority_head_start = std::chrono::seconds(60);
  std::function<EngineTime()> now = EngineClock::now;
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

  // Whether a request can ever run. Error kUsage, kOutOfResources: it cannot, as it is. Depends on nothing that
  // changes: any thread may ask.
  Result<void> check(const Request& request) const;

  // Queues a request. Its output goes to the sink, from later calls of step(), cancel() and stop(). Errors: as of
  // check(); kBackend, kIo: the executor has failed; whatever stop() was given. The sink is not called then.
  Result<RequestId> submit(Request request, OutputSink sink) {
    return submit(last_id_ + 1, std::move(request), std::move(sink));
  }
  // id: chosen by the caller, greater than any before it.
  Result<RequestId> submit(RequestId id, Request request, OutputSink sink);

  // Ends a request with FinishReason::kCancelled. False: it has ended already, or never was.
  bool cancel(RequestId id);

  // Ends every request whose deadline has passed, enqueues one step if there is something to run, then waits for the
  // oldest one if as many as allowed are in flight or nothing could be enqueued. False: nothing is left to do.
  bool step();
  void run_until_idle();

  // Waits for the steps in flight and ends every request with FinishReason::kError; later ones are refused with it.
  void stop(const Error& error);

  // Tokens that a request may have, prompt and generated: the option, or all that the KV pool holds.
  int context_tokens() const { return context_tokens_; }
  const Scheduler& scheduler() const { return scheduler_; }
  int n_steps_in_flight() const { return n_in_flight_; }
  bool has_work() const { return n_in_flight_ > 0 || scheduler_.has_work(); }
  const std::optional<Error>& failure() const { return failure_; }
  // Brings the figures of `stats` up to date.
  void update(EngineStats& stats) const;

 private:
  struct Flight {
    StepPlan plan;
    StepId step = 0;
    EngineTime enqueued = {};
  };
  using Choices = std::vector<std::shared_ptr<Sequence>>;

  bool enqueue_next();
  void complete_oldest();
  Result<StepOutput> wait_for_oldest();
  void deliver(const StepPlan::Part& part, const StepPlan& plan, StepOutput& output);
  std::optional<Finish> accept(Sequence& sequence, RowOutput& row, OutputDelta& delta);
  bool is_end_token(const Sequence& sequence, int32_t token) const;
  void end_request(RequestId id, const Finish& finish);
  void finish(std::shared_ptr<Sequence> sequence, OutputDelta delta);
  RequestCost cost_of(const Sequence& sequence) const;
  void expire();

  Executor& executor_;
  const Tokenizer* tokenizer_;
  const EngineOptions options_;
  const int context_tokens_;
  Scheduler scheduler_;
  std::map<RequestId, Choices> requests_;                 // with the choices that have not ended
  std::set<std::pair<EngineTime, RequestId>> deadlines_;  // of those requests
  RequestId last_id_ = 0;
  std::array<Flight, kMaxStepsInFlight> flights_;  // a ring
  int oldest_flight_ = 0;
  int n_in_flight_ = 0;
  EngineTime last_completed_ = {};
  bool stepping_ = false;
  std::optional<Error> failure_;  // for good
  EngineStats stats_;             // the counts; update() adds what is true now
};

}  // namespace spate
