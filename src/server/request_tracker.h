// The requests that the engine has, seen from outside of it: measured as their tokens come, and failed when the engine
// can do so no longer.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "engine/engine_thread.h"
#include "server/metrics.h"

namespace spate::server {

class RequestTracker {
 public:
  // Both outlive the requests.
  explicit RequestTracker(ServerMetrics& metrics) : metrics_(metrics) {}
  RequestTracker(const RequestTracker&) = delete;
  RequestTracker& operator=(const RequestTracker&) = delete;

  // EngineThread::submit(). After fail_all(): its error.
  Result<RequestId> submit(EngineThread& engine, Request request, OutputSink sink);

  // Ends every choice that has not ended with FinishReason::kError, by the calling thread; what the engine may still
  // say of them is dropped. For an engine that hangs: one sink may be called by it and by this at the same time. Those
  // that are on their way to it are refused.
  void fail_all(const Error& error);

 private:
  class Tracked;

  ServerMetrics& metrics_;
  std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_set<Tracked*> requests_;
  std::optional<Error> failure_;  // of all, and of those still to come
};

}  // namespace spate::server
