// A few threads for what takes too long on an I/O thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spate::http {

class Workers {
 public:
  explicit Workers(int n_threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs the task on one of the threads, in the order of the calls. After stop(): never.
  void post(std::function<void()> task);
  // Waits for the tasks that run, drops those that wait.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace spate::http
