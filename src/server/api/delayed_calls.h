// Calls that are due a fixed time after they were handed in.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace spate::api {

// One thread, in the order in which calls came; a call must not take long. What is not due when this goes is dropped.
class DelayedCalls {
 public:
  explicit DelayedCalls(std::chrono::milliseconds delay);
  ~DelayedCalls();
  DelayedCalls(const DelayedCalls&) = delete;
  DelayedCalls& operator=(const DelayedCalls&) = delete;

  // From any thread, also from within a call.
  void add(std::function<void()> call);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Clock::time_point due;
    std::function<void()> call;
  };
  void run();

  const std::chrono::milliseconds delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> entries_;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace spate::api
