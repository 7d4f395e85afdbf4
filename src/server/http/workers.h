// A few threads for what takes too long on an I/O thread. Of several, one is always left to tasks that are not heavy:
// a few large requests hold up each other, not everybody.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spate::http {

class Workers {
 public:
  // Tasks that wait for a thread, of each weight.
  struct Limits {
    size_t max_light, max_heavy;
  };
  Workers(int n_threads, const Limits& limits);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  enum class Weight : uint8_t { kLight, kHeavy };
  // Runs the task on one of the threads, in the order of the calls with its weight. False: it never will, because too
  // many wait, or after stop().
  bool post(std::function<void()> task, Weight weight = Weight::kLight);
  // Waits for the tasks that run, drops those that wait.
  void stop();

 private:
  using Tasks = std::deque<std::function<void()>>;
  void run();
  Tasks* next_queue();

  const Limits limits_;
  const int max_heavy_;  // that run
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  Tasks light_, heavy_;
  int n_heavy_ = 0;  // that run
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace spate::http
