// The requests that the engine has, seen from outside of it: measured as their tokens come, handed over to threads that
// may take their time, and failed when the engine can do so no longer.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "engine/engine_thread.h"
#include "server/deliveries.h"
#include "server/metrics.h"

namespace spate::server {

class RequestTracker {
 public:
  // metrics outlives this, and this every request.
  explicit RequestTracker(ServerMetrics& metrics) : metrics_(metrics) {}
  RequestTracker(const RequestTracker&) = delete;
  RequestTracker& operator=(const RequestTracker&) = delete;

  // EngineThread::submit(), but that the sink is called on other threads, and may take long without holding up steps.
  // received_at: when the client began to ask, which its time to the first token counts from. After fail_all(): its
  // error.
  Result<RequestId> submit(EngineThread& engine, Request request, EngineTime received_at, OutputSink sink);

  // Ends every choice that has not ended with FinishReason::kError, by the calling thread; what the engine may still
  // say of them is dropped. For an engine that hangs: one sink may be called by it and by this at the same time. Those
  // that are on their way to it are refused.
  void fail_all(const Error& error);

  // No sink is called by this any more. Before what they use goes.
  void stop() { deliveries_.stop(); }

 private:
  class Tracked;

  ServerMetrics& metrics_;
  std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_set<Tracked*> requests_;
  std::optional<Error> failure_;  // of all, and of those still to come

  // Two threads: a long list of scores, of which the JSON takes a while, leaves one to the others. The last member: it
  // uses the others.
  static constexpr size_t kThreads = 2;
  Deliveries deliveries_{kThreads};
};

}  // namespace spate::server
