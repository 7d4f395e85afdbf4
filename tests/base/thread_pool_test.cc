#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <gtest/gtest.h>
#include <mutex>
#include <numeric>
#include <set>

namespace spate {
namespace {

TEST(ThreadPool, Run_CallsEachThreadOnce_OnThreadsOfItsOwn) {
  for (int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    ASSERT_EQ(pool.size(), n_threads);
    std::vector<int> calls(n_threads, 0);
    std::vector<std::thread::id> ids(n_threads);
    pool.run([&](int thread) {
      ++calls[thread];
      ids[thread] = std::this_thread::get_id();
    });
    EXPECT_EQ(calls, std::vector<int>(n_threads, 1));
    EXPECT_EQ(ids[0], std::this_thread::get_id());
    EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), static_cast<size_t>(n_threads));
  }
}

TEST(ThreadPool, Run_ThreadsAreConcurrent) {
  ThreadPool pool(3);
  std::atomic<int> arrived{0};
  pool.run([&](int) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();  // ends only if all three are inside at once
  });
  EXPECT_EQ(arrived, 3);
}

// What a section wrote without atomics is read by every thread of the next one: the thread sanitizer watches this.
TEST(ThreadPool, ManyShortSections_EachSeesWhatTheLastOneWrote) {
  // More threads than processors take turns, a section in milliseconds: fewer of those.
  for (const auto& [n_threads, n_sections] : {std::pair(2, 4'000), std::pair(4, 400)}) {
    ThreadPool pool(n_threads);
    std::vector<int64_t> now(n_threads, 1), next(n_threads, 0);
    for (int section = 0; section < n_sections; ++section) {
      pool.run([&](int thread) { next[thread] = std::accumulate(now.begin(), now.end(), int64_t{0}) % 1'000'003; });
      now.swap(next);
    }
    int64_t expected = 1;
    for (int section = 0; section < n_sections; ++section) expected = expected * n_threads % 1'000'003;
    EXPECT_EQ(now, std::vector<int64_t>(n_threads, expected)) << n_threads << " threads";
  }
}

TEST(ThreadPool, SectionAfterTheWorkersFellAsleep_StillRuns) {
  ThreadPool pool(3);
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, 3);
  }
}

TEST(ThreadPool, SlowWorker_IsWaitedFor) {
  ThreadPool pool(2);
  int written = 0;
  pool.run([&](int thread) {
    if (thread != 1) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // long past the caller's spinning
    written = 7;
  });
  EXPECT_EQ(written, 7);
}

TEST(ThreadPool, MadeAndDestroyedWithoutWork_Ends) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(4);
}

TEST(ParallelFor, EveryItemOnce_InChunksOfAtMostTheGrain) {
  for (int n_threads : {1, 2, 4}) {
    ThreadPool pool(n_threads);
    for (int64_t n_items : {0, 1, 2, 7, 64, 65, 1000})
      for (int64_t grain : {1, 2, 7, 64, 2000}) {
        std::mutex mutex;
        std::vector<int> visits(n_items, 0);
        pool.parallel_for(n_items, grain, [&](int thread, int64_t begin, int64_t end) {
          std::lock_guard lock(mutex);
          EXPECT_TRUE(thread >= 0 && thread < n_threads);
          EXPECT_TRUE(begin < end && end - begin <= grain) << begin << ".." << end << " by " << grain;
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(n_items, 1)) << n_threads << " threads, " << n_items << " by " << grain;
      }
  }
}

TEST(ParallelFor, OneChunk_RunsOnTheCaller) {
  ThreadPool pool(4);
  std::thread::id id;
  pool.parallel_for(10, 10, [&](int thread, int64_t, int64_t) {
    EXPECT_EQ(thread, 0);
    id = std::this_thread::get_id();
  });
  EXPECT_EQ(id, std::this_thread::get_id());
}

TEST(ThreadPoolDeath, NoThreadsOrNoGrain_IsOurBug) {
  EXPECT_DEATH(ThreadPool(0), "0 threads");
  EXPECT_DEATH(ThreadPool(1).parallel_for(5, 0, [](int, int64_t, int64_t) {}), "chunks of 0 items");
}

}  // namespace
}  // namespace spate
