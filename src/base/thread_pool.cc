#include "base/thread_pool.h"

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spate {

namespace {

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// About 50 us of pauses on a 3 GHz core: longer than the gap between two sections of a step, shorter than a scheduler
// tick.
constexpr int kSpins = 2000;

void stop_workers(std::atomic<bool>& stopping, std::atomic<uint32_t>& generation, std::vector<std::thread>& workers) {
  stopping.store(true, std::memory_order_relaxed);
  generation.fetch_add(1, std::memory_order_release);
  generation.notify_all();
  for (std::thread& worker : workers) worker.join();
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  SPATE_CHECK(n_threads >= 1, "{} threads", n_threads);
  try {
    for (int thread = 1; thread < n_threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
  } catch (...) {
    // The system gives no more threads (std::system_error). No destructor runs for what was not constructed, and a
    // std::thread that nobody joins ends the process.
    stop_workers(stopping_, generation_, workers_);
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop_workers(stopping_, generation_, workers_);
}

void ThreadPool::run_erased(Function function, void* context) {
  function_ = function;
  context_ = context;
  n_running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  function(context, 0);
  int spins = 0;
  while (int running = n_running_.load(std::memory_order_acquire)) {
    if (++spins < kSpins)
      relax();
    else
      n_running_.wait(running, std::memory_order_acquire);
  }
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      if (++spins < kSpins)
        relax();
      else
        generation_.wait(seen, std::memory_order_acquire);
    }
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    function_(context_, thread);
    if (n_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) n_running_.notify_one();
  }
}

}  // namespace spate
