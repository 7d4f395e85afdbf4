// What the engine's thread hands over instead of doing it: making JSON of an answer may take longer than a step, and
// everybody's steps wait for that thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/request.h"

namespace spate::server {

// A few threads that take what the engine says of requests to where it goes. What is said of one request arrives in
// order, one thing at a time; requests do not wait for each other as long as there is a thread left.
class Deliveries {
 public:
  // One request's.
  class Line {
   public:
    virtual ~Line() = default;

   protected:
    friend class Deliveries;
    virtual void deliver(const OutputDelta& delta) = 0;  // on one of the threads

   private:
    // Guarded by Deliveries::mutex_:
    std::vector<OutputDelta> waiting_;
    bool is_taken_ = false;  // by a thread, or by ready_
  };

  explicit Deliveries(size_t n_threads);
  // As stop().
  ~Deliveries();
  Deliveries(const Deliveries&) = delete;
  Deliveries& operator=(const Deliveries&) = delete;

  // Any thread, in as little time as a lock takes. After stop(): of no effect.
  void post(const std::shared_ptr<Line>& line, OutputDelta delta);

  // Waits for the deliveries that run, drops those that wait. Not from a delivery.
  void stop();

 private:
  void run();
  // Waits for a line that is ready, and takes what waits on it. Null: stop() was called.
  std::shared_ptr<Line> next_line(std::vector<OutputDelta>& deltas);
  void put_back(const std::shared_ptr<Line>& line);

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::deque<std::shared_ptr<Line>> ready_;  // lines that have something waiting and no thread
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace spate::server
