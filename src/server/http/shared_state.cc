#include "server/http/shared_state.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace spate::http {
namespace {

HttpOptions without_keys(HttpOptions options) {
  options.api_keys.clear();
  return options;
}

// Those with large bodies take a worker tenths of a second each.
Workers::Limits worker_limits(const HttpOptions& options) {
  constexpr int kHeavyShare = 64;
  return {.max_light = static_cast<size_t>(options.max_worker_queue),
          .max_heavy = static_cast<size_t>(std::max(options.max_worker_queue / kHeavyShare, 1))};
}

}  // namespace

SharedState::SharedState(HttpOptions given, std::vector<Route> rows)
    : options(without_keys(given)),
      routes(std::move(rows)),
      keys(given.api_keys),
      cors(given.cors_origins),
      hosts(given),
      bodies(std::make_shared<ByteBudget>(given.max_bodies_bytes)),
      stream_buffers(std::make_shared<StreamBuffers>(given.stream_buffers_bytes)),
      internal_error(std::make_shared<const std::string>(
          given.error_body({500, "internal_error", "the server failed to answer this request; see its log"}))),
      overloaded(std::make_shared<const std::string>(
          given.error_body({503, "overloaded",
                            "the answers to other requests take all the memory there is for them; try again later"}))),
      busy(std::make_shared<const std::string>(given.error_body(
          {503, "overloaded", "more requests wait to be read than this server lets wait; try again later"}))),
      workers(given.n_workers, worker_limits(given)) {}

SharedState::Admission SharedState::add(const std::shared_ptr<Connection>& connection) {
  constexpr size_t kRefusedAtOnce = 64;
  const std::lock_guard lock(mutex_);
  const auto limit = static_cast<size_t>(options.max_connections);
  if (!admitting_ || connections_.size() >= limit + kRefusedAtOnce) return Admission::kDropped;
  connections_.emplace(connection.get(), connection);
  return connections_.size() > limit ? Admission::kRefused : Admission::kServed;
}

void SharedState::remove(const Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
}

std::vector<std::shared_ptr<Connection>> SharedState::connections() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Connection>> list;
  for (const auto& [key, connection] : connections_)
    if (auto alive = connection.lock()) list.push_back(std::move(alive));
  return list;
}

void SharedState::stop_admitting() {
  const std::lock_guard lock(mutex_);
  admitting_ = false;
}

void SharedState::exchange_began() {
  const std::lock_guard lock(mutex_);
  ++n_exchanges_;
}

void SharedState::exchange_ended() {
  const std::lock_guard lock(mutex_);
  if (--n_exchanges_ == 0) idle_.notify_all();
}

int SharedState::n_exchanges() const {
  const std::lock_guard lock(mutex_);
  return n_exchanges_;
}

bool SharedState::wait_until_idle(std::chrono::steady_clock::time_point until) const {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, until, [this] { return n_exchanges_ == 0; });
}

}  // namespace spate::http
