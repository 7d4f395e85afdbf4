#include "server/deliveries.h"

#include <utility>

#include "server/http/signal_block.h"

namespace spate::server {

Deliveries::Deliveries(size_t n_threads) {
  const http::SignalBlock block;
  for (size_t i = 0; i < n_threads; ++i) threads_.emplace_back([this] { run(); });
}

Deliveries::~Deliveries() {
  stop();
}

void Deliveries::post(const std::shared_ptr<Line>& line, OutputDelta delta) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    line->waiting_.push_back(std::move(delta));
    if (std::exchange(line->is_taken_, true)) return;
    ready_.push_back(line);
  }
  changed_.notify_one();
}

void Deliveries::stop() {
  std::deque<std::shared_ptr<Line>> dropped;  // what they hold goes outside of the lock
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(ready_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

void Deliveries::run() {
  std::vector<OutputDelta> deltas;
  while (const std::shared_ptr<Line> line = next_line(deltas)) {
    for (const OutputDelta& delta : deltas) line->deliver(delta);
    deltas.clear();
    put_back(line);
  }
}

std::shared_ptr<Deliveries::Line> Deliveries::next_line(std::vector<OutputDelta>& deltas) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
  if (stopping_) return nullptr;
  std::shared_ptr<Line> line = std::move(ready_.front());
  ready_.pop_front();
  deltas.swap(line->waiting_);
  return line;
}

// Behind the others, where more has come meanwhile.
void Deliveries::put_back(const std::shared_ptr<Line>& line) {
  const std::lock_guard lock(mutex_);
  line->is_taken_ = !line->waiting_.empty();
  if (line->is_taken_ && !stopping_) ready_.push_back(line);
}

}  // namespace spate::server
