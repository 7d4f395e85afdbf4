// A fixed set of threads for short parallel sections, thousands a second: between sections the workers spin briefly,
// then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/check.h"

namespace spate {

// One section at a time, started by one thread, which takes part as thread 0. Not reentrant.
class ThreadPool {
 public:
  // n_threads >= 1, counting the caller of run().
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(int thread) once for each thread in [0, size()), concurrently; returns when all have. What fn wrote is
  // visible to the caller afterwards. fn must not throw.
  template <typename Fn>
  void run(Fn&& fn) {
    using Plain = std::remove_reference_t<Fn>;
    run_erased([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); },
               const_cast<void*>(static_cast<const void*>(&fn)));
  }

  // Calls fn(int thread, int64_t begin, int64_t end) over [0, n_items) in chunks of at most `grain` items, handed to
  // whichever thread is free; grain >= 1. Fewer than two chunks run on the caller alone.
  template <typename Fn>
  void parallel_for(int64_t n_items, int64_t grain, Fn&& fn) {
    SPATE_CHECK(grain >= 1, "chunks of {} items", grain);
    if (n_items <= grain || workers_.empty()) {
      for (int64_t begin = 0; begin < n_items; begin += grain)
        fn(0, begin, begin + grain < n_items ? begin + grain : n_items);
      return;
    }
    std::atomic<int64_t> next{0};
    run([&](int thread) {
      for (;;) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= n_items) return;
        fn(thread, begin, begin + grain < n_items ? begin + grain : n_items);
      }
    });
  }

 private:
  using Function = void (*)(void* context, int thread);
  void run_erased(Function function, void* context);
  void work(int thread);

  Function function_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};  // bumped to start a section
  alignas(64) std::atomic<int> n_running_{0};        // workers that have not finished the section
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace spate
