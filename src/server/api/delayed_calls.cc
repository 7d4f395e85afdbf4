#include "server/api/delayed_calls.h"

#include <utility>

namespace spate::api {

DelayedCalls::DelayedCalls(std::chrono::milliseconds delay) : delay_(delay), thread_([this] { run(); }) {}

DelayedCalls::~DelayedCalls() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void DelayedCalls::add(std::function<void()> call) {
  bool was_empty;
  {
    const std::lock_guard lock(mutex_);
    was_empty = entries_.empty();
    entries_.push_back({Clock::now() + delay_, std::move(call)});
  }
  if (was_empty) changed_.notify_one();
}

void DelayedCalls::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (entries_.empty()) {
      changed_.wait(lock);
    } else if (Clock::now() < entries_.front().due) {
      changed_.wait_until(lock, entries_.front().due);
    } else {
      const std::function<void()> call = std::move(entries_.front().call);
      entries_.pop_front();
      lock.unlock();
      call();
      lock.lock();
    }
  }
}

}  // namespace spate::api
