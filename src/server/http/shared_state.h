// What the connections of a server share.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/http/answer.h"
#include "server/http/api_keys.h"
#include "server/http/cors.h"
#include "server/http/handler.h"
#include "server/http/host_check.h"
#include "server/http/route_table.h"
#include "server/http/workers.h"

namespace spate::http {

class Connection;

// Bytes that may be held at once, taken by whoever comes first.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t n_bytes) : left_(n_bytes) {}
  bool take(int64_t n_bytes) {
    if (left_.fetch_sub(n_bytes) >= n_bytes) return true;
    give_back(n_bytes);
    return false;
  }
  void give_back(int64_t n_bytes) { left_.fetch_add(n_bytes); }

 private:
  std::atomic<int64_t> left_;
};

// A part of a budget, given back with the object.
class ByteLease {
 public:
  ByteLease() = default;
  explicit ByteLease(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  ByteLease(ByteLease&& other) noexcept
      : budget_(std::move(other.budget_)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  ByteLease& operator=(ByteLease&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(n_bytes_, other.n_bytes_);
    return *this;
  }
  ~ByteLease() {
    if (budget_) budget_->give_back(n_bytes_);
  }

  // Holds at least that many bytes from now on. False: there are not as many.
  bool grow_to(int64_t n_bytes) {
    if (n_bytes <= n_bytes_) return true;
    if (!budget_->take(n_bytes - n_bytes_)) return false;
    n_bytes_ = n_bytes;
    return true;
  }

 private:
  std::shared_ptr<ByteBudget> budget_;
  int64_t n_bytes_ = 0;
};

class SharedState {
 public:
  SharedState(HttpOptions given, std::vector<Route> rows);

  const HttpOptions options;  // but for the keys, which are not kept
  const RouteTable routes;
  const ApiKeys keys;
  const Cors cors;
  const HostCheck hosts;
  const std::shared_ptr<ByteBudget> bodies;
  const std::shared_ptr<StreamBuffers> stream_buffers;
  const std::shared_ptr<const std::string> internal_error;  // the body that says it, for exchanges that outlive this
  const std::shared_ptr<const std::string> overloaded;      // the body where answers take too much memory
  const std::shared_ptr<const std::string> busy;            // and where too many requests wait for a worker
  Workers workers;

  // Every answer from now on ends its connection.
  std::atomic<bool> draining = false;

  enum class Admission : uint8_t {
    kServed,
    kRefused,  // beyond the limit: is told so, and goes
    kDropped,  // beyond what can be told
  };
  Admission add(const std::shared_ptr<Connection>& connection);
  void remove(const Connection* connection);
  std::vector<std::shared_ptr<Connection>> connections() const;
  // Admits nobody any more.
  void stop_admitting();

  // Requests whose header is complete and whose answer is not.
  void exchange_began();
  void exchange_ended();
  int n_exchanges() const;
  // False: the time has come before there were none.
  bool wait_until_idle(std::chrono::steady_clock::time_point until) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable idle_;
  std::unordered_map<const Connection*, std::weak_ptr<Connection>> connections_;
  int n_exchanges_ = 0;
  bool admitting_ = true;
};

}  // namespace spate::http
