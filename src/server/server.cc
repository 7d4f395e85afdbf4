#include "server/server.h"

#include <algorithm>
#include <fmt/core.h>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "server/api/error_json.h"
#include "server/api/json_text.h"
#include "server/http/text.h"

namespace spate::server {
namespace {

using http::Exchange;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
// For answers to go out once there is nothing more to compute.
constexpr milliseconds kFlushTime{2'000};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options) {
  std::unique_ptr<Server> server(new Server(std::move(options)));
  http::HttpOptions http = server->options_.http;
  http.error_body = [](const http::TransportError& error) {
    return api::error_json(error.status, error.message, error.code);
  };
  http.on_finished = [raw = server.get()](const http::RequestRecord& record) { raw->note_finished(record); };
  SPATE_TRY(server->http_, http::HttpServer::start(http, server->routes()));
  return server;
}

Server::Server(ServerOptions options) : options_(std::move(options)) {}

// Exchanges call back into this, and sinks hold exchanges: the transport stops first, the engine then lets go of what
// it has and the tracker of what it said, and only then do they go.
Server::~Server() {
  if (http_) http_->stop();
  if (engine_) engine_->stop();
  tracker_.stop();
}

// --- what is answered here

http::Route Server::status_route(std::string path, http::Handler handler, http::Access access) const {
  return {.method = "GET", .path = std::move(path), .handler = std::move(handler), .access = access};
}

std::vector<http::Route> Server::routes() {
  using Pointer = std::shared_ptr<Exchange>;
  std::vector<http::Route> rows = asset_routes(options_.assets);
  rows.push_back(status_route(
      "/health", [this](const Pointer& exchange) { answer_health(*exchange); }, http::Access::kOpen));
  rows.push_back(status_route(
      "/livez", [](const Pointer& exchange) { exchange->respond(200, kJson, R"({"status":"alive"})"); },
      http::Access::kOpen));
  rows.push_back(status_route(
      "/metrics", [this](const Pointer& exchange) { exchange->respond(200, kMetricsType, metrics_text()); },
      http::Access::kKey));
  const std::string version =
      fmt::format(R"({{"version":{},"commit":{}}})", api::json_text(options_.version), api::json_text(options_.commit));
  rows.push_back(status_route(
      "/version", [version](const Pointer& exchange) { exchange->respond(200, kJson, version); }, http::Access::kKey));
  std::vector<http::Route> endpoints = api::api_routes(*this, options_.api);
  std::move(endpoints.begin(), endpoints.end(), std::back_inserter(rows));
  return rows;
}

void Server::answer_health(Exchange& exchange) const {
  switch (state_) {
    case State::kLoading:
      return exchange.respond(503, kJson, R"({"status":"loading"})", {{"Retry-After", "1"}});
    case State::kReady:
      return exchange.respond(200, kJson, R"({"status":"ok"})");
    case State::kDraining:
      return exchange.respond(503, kJson, R"({"status":"draining"})");
    case State::kFailed:
      return exchange.respond(503, kJson, R"({"status":"failed"})");
  }
}

std::string Server::metrics_text() const {
  MetricsPage page;
  page.gauge("spate_ready", "1: requests are taken; 0: the server loads, drains or has failed.",
             state_ == State::kReady ? 1 : 0);
  if (const EngineThread* engine = running_) write_engine(page, engine->stats());
  metrics_.write(page);
  return page.take();
}

// One line a request. Its fields are what the transport and the endpoint say of it: neither prompts nor keys.
void Server::note_finished(const http::RequestRecord& record) {
  using Outcome = http::RequestRecord::Outcome;
  metrics_.add_request(record);
  // Of the other 5xx, 503 is for whoever comes while the server loads, drains or is full, and 501 and 505 are the
  // client's doing.
  const bool is_trouble = record.status == 500 || record.status == 504 || record.outcome == Outcome::kCutOff;
  log::write(is_trouble ? log::Level::kWarn : log::Level::kInfo,
             fmt::format("request id={} method={} route={} peer={} status={} outcome={} request_bytes={} "
                         "answer_bytes={} first_byte_s={:.6f} total_s={:.6f}{}",
                         record.id, http::log_value(record.method), http::log_value(record.route), record.peer_address,
                         record.status, http::outcome_name(record.outcome), record.request_bytes, record.answer_bytes,
                         record.first_byte_seconds, record.total_seconds, record.fields));
}

// --- what the endpoints ask for

api::ApiResult<std::shared_ptr<const api::ServedModel>> Server::model() const {
  switch (state_) {
    case State::kLoading:
      return api::ApiError::unavailable("the model is being loaded: try again later");
    case State::kReady:
      return model_;
    case State::kDraining:
      return api::ApiError::unavailable("the server is about to stop and takes no new requests");
    case State::kFailed:
      break;
  }
  return api::ApiError::unavailable("the server's device has failed, and the server is about to stop");
}

Result<RequestId> Server::submit(Request request, EngineTime received_at, OutputSink sink) {
  return tracker_.submit(*engine_, std::move(request), received_at, std::move(sink));
}

void Server::cancel(RequestId id) {
  engine_->cancel(id);
}

// --- states

void Server::serve(Loaded loaded) {
  SPATE_CHECK(engine_ == nullptr && loaded.executor != nullptr && loaded.model != nullptr);
  executor_ = std::move(loaded.executor);
  model_ = std::move(loaded.model);
  engine_ = std::make_unique<EngineThread>(*executor_, &model_->tokenizer(), loaded.engine, loaded.queue);
  running_ = engine_.get();
  State loading = State::kLoading;
  state_.compare_exchange_strong(loading, State::kReady);  // unless drain() came first
}

void Server::drain() {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kFailed || state_ == State::kDraining) return;
    state_ = State::kDraining;
  }
  http_->drain();
  changed_.notify_all();
}

bool Server::ends_before_serving() {
  if (running_ != nullptr) return false;
  http_->wait_until_idle(steady_clock::now() + kFlushTime);
  return running_ == nullptr;
}

// Between two looks at the engine: one that hangs cannot tell.
milliseconds Server::watch_pause() const {
  return options_.watchdog_time.count() == 0
             ? milliseconds(250)
             : std::clamp(options_.watchdog_time / 8, milliseconds(5), milliseconds(250));
}

// When the executor was last seen to get on within a step; long ago where it does not tell.
Server::Time Server::last_progress() {
  if (const auto* step = dynamic_cast<const StepProgress*>(executor_.get()))
    if (const uint64_t progress = step->progress(); std::exchange(seen_progress_, progress) != progress)
      progress_at_ = steady_clock::now();
  return progress_at_;
}

// What keeps the engine from going on, if anything does.
std::optional<Error> Server::engine_trouble() {
  if (std::optional<Error> failure = engine_->failure()) return failure;
  const EngineProgress engine = engine_->progress();
  const bool is_late = steady_clock::now() - std::max(engine.since, last_progress()) >= options_.watchdog_time;
  if (options_.watchdog_time.count() == 0 || !engine.has_work || !is_late) return std::nullopt;
  step_runs_on_ = true;
  return Error::backend(fmt::format("there is work, but no step has completed for {:.1f} s: the device hangs",
                                    std::chrono::duration<double>(options_.watchdog_time).count()));
}

Result<void> Server::wait() {
  SPATE_CHECK(engine_ != nullptr, "wait() comes after serve()");
  const milliseconds pause = watch_pause();
  std::optional<steady_clock::time_point> drained_by;
  for (;;) {
    if (std::optional<Error> trouble = engine_trouble()) return end_failed(*std::move(trouble));
    if (state_ == State::kDraining) {
      if (!drained_by) drained_by = steady_clock::now() + options_.drain_time;
      const bool idle = http_->wait_until_idle(std::min(*drained_by, steady_clock::now() + pause));
      if (idle || steady_clock::now() >= *drained_by) return end_drained();
    } else {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, pause, [this] { return state_ == State::kDraining; });
    }
  }
}

Result<void> Server::end_drained() {
  if (const int n_left = http_->n_requests(); n_left > 0) {
    log::warn("{} requests did not end within the drain time and are failed", n_left);
    tracker_.fail_all(Error::interrupted("the server stopped before this request ended"));
    http_->wait_until_idle(steady_clock::now() + kFlushTime);
  }
  http_->stop();
  (void)last_progress();
  engine_stopped_ = std::async(std::launch::async, [this] { engine_->stop(); });
  const Time stopping_since = steady_clock::now();
  if (engine_stopped_.wait_for(options_.stop_time) == std::future_status::ready) return {};
  step_runs_on_ = true;
  if (last_progress() > stopping_since) return {};  // a long step, that nobody needs any more
  return Error::backend(fmt::format("a step did not end within {:.1f} s of the server's end: the device hangs",
                                    std::chrono::duration<double>(options_.stop_time).count()));
}

Error Server::end_failed(Error why) {
  {
    const std::lock_guard lock(mutex_);
    state_ = State::kFailed;
  }
  http_->drain();
  // An executor that has failed says so to its requests by itself; of one that hangs, they hear here.
  if (step_runs_on_) tracker_.fail_all(why);
  http_->wait_until_idle(steady_clock::now() + kFlushTime);
  http_->stop();
  return why;
}

}  // namespace spate::server
