#include "server/http/workers.h"

#include <algorithm>
#include <utility>

#include "server/http/signal_block.h"

namespace spate::http {

Workers::Workers(int n_threads, const Limits& limits) : limits_(limits), max_heavy_(std::max(1, n_threads - 1)) {
  const SignalBlock block;
  for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this] { run(); });
}

Workers::~Workers() {
  stop();
}

bool Workers::post(std::function<void()> task, Weight weight) {
  {
    const std::lock_guard lock(mutex_);
    const bool is_heavy = weight == Weight::kHeavy;
    Tasks& queue = is_heavy ? heavy_ : light_;
    if (stopping_ || queue.size() >= (is_heavy ? limits_.max_heavy : limits_.max_light)) return false;
    queue.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void Workers::stop() {
  Tasks dropped_light, dropped_heavy;  // what they hold goes outside of the lock
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped_light.swap(light_);
    dropped_heavy.swap(heavy_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

// Heavy ones first, where one may run: light ones have a thread of their own. Null: there is nothing to do now.
Workers::Tasks* Workers::next_queue() {
  if (!heavy_.empty() && n_heavy_ < max_heavy_) return &heavy_;
  return light_.empty() ? nullptr : &light_;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Tasks* queue = nullptr;
    changed_.wait(lock, [&] { return stopping_ || (queue = next_queue()) != nullptr; });
    if (stopping_) return;
    const bool is_heavy = queue == &heavy_;
    std::function<void()> task = std::move(queue->front());
    queue->pop_front();
    n_heavy_ += is_heavy ? 1 : 0;
    lock.unlock();
    task();
    task = nullptr;  // what it holds goes outside of the lock too
    lock.lock();
    if (!is_heavy) continue;
    --n_heavy_;
    changed_.notify_one();
  }
}

}  // namespace spate::http
