// The serving process: a socket that listens from the start, a model that comes later, an engine that runs it, and an
// orderly end. loading -> ready -> draining -> ended; from ready also -> failed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend/executor.h"
#include "backend/step_progress.h"
#include "base/error.h"
#include "engine/engine_thread.h"
#include "server/api/routes.h"
#include "server/api/serving.h"
#include "server/asset.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/request_tracker.h"

namespace spate::server {

struct ServerOptions {
  http::HttpOptions http = {};  // error_body and on_finished are set by the server
  api::ApiOptions api = {};
  std::vector<Asset> assets = {};
  std::string version = {};  // as GET /version gives them
  std::string commit = {};
  std::chrono::milliseconds drain_time{30'000};  // that requests under way have to end, once told to drain
  // That the engine may have work, complete no step and, by StepProgress, not get on with one either; 0: any.
  std::chrono::milliseconds watchdog_time{60'000};
  std::chrono::milliseconds stop_time{15'000};  // after drain_time, that the steps in flight have to end
};

// What is served, once it is loaded.
struct Loaded {
  std::unique_ptr<Executor> executor;
  std::shared_ptr<const api::ServedModel> model;
  EngineOptions engine = {};
  QueueLimits queue = {};
};

class Server final : private api::Serving {
 public:
  // Listens at once, and says that it is loading. Errors as of http::HttpServer::start().
  static Result<std::unique_ptr<Server>> start(ServerOptions options);
  // Ends what is left. Waits for the engine's steps in flight: see step_runs_on().
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const { return http_->port(); }

  // Takes requests from now on. Once.
  void serve(Loaded loaded);

  // Any thread: takes no new requests, and lets wait() return once those under way have ended or drain_time is over.
  void drain();

  // Any thread, after drain(): waits until what was asked meanwhile is answered, and says whether that is all there is
  // to wait for, serve() not having been called yet.
  bool ends_before_serving();

  // Blocks from serve() on until the server has ended: nothing after drain(), what is still under way then being
  // failed; Error kBackend or kIo when the executor failed, hung for watchdog_time, or after drain() neither ended nor
  // got on with what it had to do within stop_time. What was in flight has been answered with it.
  Result<void> wait();
  // wait() has left a step that runs on, or hangs: this cannot be destroyed, so the process must end without.
  bool step_runs_on() const { return step_runs_on_; }

 private:
  enum class State : uint8_t { kLoading, kReady, kDraining, kFailed };
  using Time = std::chrono::steady_clock::time_point;

  explicit Server(ServerOptions options);
  std::vector<http::Route> routes();
  http::Route status_route(std::string path, http::Handler handler, http::Access access) const;
  void answer_health(http::Exchange& exchange) const;
  std::string metrics_text() const;
  void note_finished(const http::RequestRecord& record);

  // api::Serving
  api::ApiResult<std::shared_ptr<const api::ServedModel>> model() const override;
  Result<RequestId> submit(Request request, EngineTime received_at, OutputSink sink) override;
  void cancel(RequestId id) override;

  std::chrono::milliseconds watch_pause() const;
  Time last_progress();
  std::optional<Error> engine_trouble();
  Result<void> end_drained();
  Error end_failed(Error why);

  const ServerOptions options_;
  ServerMetrics metrics_;
  RequestTracker tracker_{metrics_};

  std::atomic<State> state_ = State::kLoading;
  std::mutex mutex_;
  std::condition_variable changed_;  // the state, or something is worth a look for wait()
  bool step_runs_on_ = false;
  // Of wait() alone: what the executor showed when it was looked at last, and when that was new.
  uint64_t seen_progress_ = 0;
  Time progress_at_ = {};

  // Set by serve(), before the state is ready.
  std::unique_ptr<Executor> executor_;
  std::shared_ptr<const api::ServedModel> model_;
  std::unique_ptr<EngineThread> engine_;
  std::atomic<const EngineThread*> running_ = nullptr;  // engine_, for those who may ask before
  std::future<void> engine_stopped_;                    // of the thread that waits for it
  std::unique_ptr<http::HttpServer> http_;
};

}  // namespace spate::server
