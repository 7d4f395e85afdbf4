// An engine on a thread of its own, for servers: others hand requests in and are never made to wait for a step.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_stats.h"

namespace spate {

// Bounds of what waits: submitted and not yet begun. Beyond them submit() refuses with kBusy. A request that waits
// alone is never refused, however long.
struct QueueLimits {
  int max_choices = 256;
  int64_t max_tokens = int64_t{1} << 20;  // of their prompts
};

// Whether the engine gets on, for a watchdog.
struct EngineProgress {
  bool has_work = false;  // submitted, waiting or running
  EngineTime since = {};  // when the last step completed, or when there was work again after none, whichever is later
};

// Everything here may be called from any thread, sinks included, except where it says otherwise.
class EngineThread {
 public:
  // executor and tokenizer: as of Engine; both outlive this. The thread starts at once.
  EngineThread(Executor& executor, const Tokenizer* tokenizer, const EngineOptions& options,
               const QueueLimits& limits = {});
  // As stop().
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Hands a request in. The sink is called on the engine's thread, possibly before this returns, and must not block.
  // Errors, after which it is never called: kUsage (the request cannot be run as it is), kOutOfResources (it would not
  // fit the pool or the context if it had them to itself), kBusy (too much is waiting), kBackend or kIo (the executor
  // has failed), kInterrupted (stopped).
  Result<RequestId> submit(Request request, OutputSink sink);

  // Ends a request: each choice that has not ended gets its last delta with FinishReason::kCancelled, on the engine's
  // thread. Of no effect on requests that have ended or never were.
  void cancel(RequestId id);

  // A snapshot, of the end of the last step.
  EngineStats stats() const;
  EngineProgress progress() const;
  // Of the executor, for good.
  std::optional<Error> failure() const;

  // Tokens that a request may have, prompt and generated.
  int context_tokens() const { return engine_.context_tokens(); }

  // Ends what is left with FinishReason::kError (kInterrupted) and joins the thread, after at most the steps in flight.
  // Not from a sink.
  void stop();

 private:
  struct Submission {
    RequestId id;
    Request request;
    OutputSink sink;
  };
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<RequestId> cancels;
    // Once handled:
    int n_choices = 0;
    int64_t n_tokens = 0;
  };

  Result<void> check_room(int n_choices, int64_t n_tokens) const;
  static Error stopped_error();
  void run();
  bool take_inbox(Inbox& inbox);
  void handle(Inbox& inbox);
  void publish_state(const Inbox& handled, const std::optional<Error>& failure);

  const QueueLimits limits_;
  const EngineOptions options_;
  const int64_t pool_tokens_;
  Engine engine_;  // used by thread_ alone once that runs, but for what never changes

  mutable std::mutex mutex_;
  std::condition_variable inbox_changed_;
  // Guarded by mutex_:
  Inbox inbox_;
  RequestId last_id_ = 0;
  int n_inbox_choices_ = 0;
  int64_t n_inbox_tokens_ = 0;
  bool stopping_ = false;
  EngineStats stats_;
  EngineProgress progress_;
  std::optional<Error> failure_;

  std::mutex join_mutex_;  // of those who stop it, and of thread_
  std::thread thread_;
};

}  // namespace spate
