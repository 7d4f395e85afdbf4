// The engine behind its thread: submissions and cancels from many threads at once. Nothing here waits for time to pass:
// a device that is told to hold its steps holds them until it is released.
#include "engine/engine_thread.h"

#include <atomic>
#include <condition_variable>
#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <thread>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::FakeExecutor;
using testing::hashed_draw;
using testing::tokens_alone;

constexpr int kVocab = 100;
constexpr ExecutorLimits kOneSlot{.max_seqs = 1, .max_step_tokens = 64, .n_pages = 40};
const EngineOptions kOptions{.vocab_size = kVocab, .context_tokens = 500};

// Collects what requests get, for whichever thread asks.
class Mailbox {
 public:
  OutputSink sink() {
    return [this](RequestId id, const OutputDelta& delta) {
      const std::lock_guard lock(mutex_);
      testing::Output& output = outputs_[{id, delta.choice}];
      EXPECT_FALSE(output.finish) << "request " << id << ": output after its end";
      for (const GeneratedToken& token : delta.tokens) output.tokens.push_back(token.token);
      output.finish = delta.finish;
      changed_.notify_all();
    };
  }
  testing::Output wait_for_end(RequestId id, int choice = 0) {
    std::unique_lock lock(mutex_);
    testing::Output& output = outputs_[{id, choice}];
    changed_.wait(lock, [&] { return output.finish.has_value(); });
    return output;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<RequestId, int>, testing::Output> outputs_;
};

// Holds the engine's thread in a step while it is closed.
class Gate {
 public:
  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    is_held_ = !open_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    is_held_ = false;
  }
  void wait_until_held() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_held_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  bool is_held_ = false;
};

struct ThreadFixture {
  explicit ThreadFixture(QueueLimits limits = {}, ExecutorLimits executor_limits = {4, 64, 40})
      : executor(executor_limits, kVocab) {
    executor.on_wait = [this](const StepBatch&) { gate.pass(); };
    EngineOptions options = kOptions;
    options.now = [this] { return EngineTime() + std::chrono::seconds(seconds.load()); };
    engine.emplace(executor, nullptr, options, limits);
  }
  ~ThreadFixture() { gate.open(); }

  RequestId submit(Request request) {
    const Result<RequestId> id = engine->submit(std::move(request), mailbox.sink());
    EXPECT_TRUE(id.ok()) << id.error().message;
    return *id;
  }
  ErrorCode refusal(Request request) {
    const Result<RequestId> id = engine->submit(std::move(request), [](RequestId, const OutputDelta&) { FAIL(); });
    EXPECT_FALSE(id.ok());
    return id.error().code;
  }
  // A request that has begun, and hangs in its first step until the gate opens.
  RequestId occupy() {
    gate.close();
    const RequestId id = submit({.prompt = counting_prompt(5), .max_tokens = 20});
    gate.wait_until_held();
    return id;
  }
  // The engine has told everybody, and then counted.
  EngineStats idle_stats() {
    engine->stop();
    return engine->stats();
  }

  std::atomic<int> seconds = 3600;  // what the engine's clock says
  Gate gate;
  Mailbox mailbox;
  FakeExecutor executor;
  std::optional<EngineThread> engine;
};

TEST(EngineThread, ManyThreads_EachRequestGetsWhatItWouldAlone) {
  ThreadFixture f({.max_choices = 1000, .max_tokens = 1 << 20});
  std::atomic<int> n_cancelled = 0;
  const auto client = [&](int thread) {
    for (int i = 0; i < 40; ++i) {
      Request request{.prompt = counting_prompt(1 + (7 * i + thread) % 90, thread % 3),
                      .max_tokens = 1 + i % 30,
                      .n_choices = 1 + i % 2};
      request.sampling.seed = static_cast<uint64_t>(i);
      const RequestId id = f.submit(request);
      if (i % 5 == 0) f.engine->cancel(id);
      for (int choice = 0; choice < request.n_choices; ++choice) {
        Request alone = request;
        alone.sampling.seed += static_cast<uint64_t>(choice);
        std::vector<int32_t> expected = tokens_alone(alone, *request.max_tokens, hashed_draw(kVocab));
        const testing::Output output = f.mailbox.wait_for_end(id, choice);
        if (output.finish->reason == FinishReason::kCancelled) {
          ++n_cancelled;
          ASSERT_LE(output.tokens.size(), expected.size());
          expected.resize(output.tokens.size());
        }
        EXPECT_EQ(output.tokens, expected);
      }
      (void)f.engine->stats();
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 6; ++thread) threads.emplace_back(client, thread);
  for (std::thread& thread : threads) thread.join();
  const EngineStats stats = f.idle_stats();
  EXPECT_EQ(stats.n_running + stats.n_waiting + stats.n_pages_used, 0);
  EXPECT_EQ(stats.n_finished[static_cast<size_t>(FinishReason::kLength)] +
                stats.n_finished[static_cast<size_t>(FinishReason::kCancelled)],
            6u * 60u);
  EXPECT_EQ(stats.n_finished[static_cast<size_t>(FinishReason::kCancelled)], static_cast<uint64_t>(n_cancelled));
  EXPECT_EQ(f.engine->failure(), std::nullopt);
}

TEST(EngineThread, SubmitAndStats_DoNotWaitForTheStepThatRuns) {
  ThreadFixture f;
  f.occupy();  // the step does not end before the gate opens
  const RequestId waits = f.submit({.prompt = counting_prompt(9), .max_tokens = 3});
  f.engine->cancel(waits);
  EXPECT_EQ(f.engine->stats().n_steps, 0u);
  f.gate.open();
  EXPECT_EQ(f.mailbox.wait_for_end(waits).finish->reason, FinishReason::kCancelled);
}

TEST(EngineThread, QueueOfRequests_IsBounded) {
  ThreadFixture f({.max_choices = 3, .max_tokens = 1000}, kOneSlot);
  f.occupy();
  std::vector<RequestId> waiting = {f.submit({.prompt = counting_prompt(4), .max_tokens = 1, .n_choices = 2})};
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(4), .max_tokens = 1, .n_choices = 2}), ErrorCode::kBusy);
  waiting.push_back(f.submit({.prompt = counting_prompt(4), .max_tokens = 1}));
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(4), .max_tokens = 1}), ErrorCode::kBusy);
  f.gate.open();
  for (const RequestId id : waiting) f.mailbox.wait_for_end(id);
  // All that waited has begun, so there is room again.
  f.submit({.prompt = counting_prompt(4), .max_tokens = 1, .n_choices = 3});
}

TEST(EngineThread, QueueOfPromptTokens_IsBoundedButTakesOneAlone) {
  ThreadFixture f({.max_choices = 100, .max_tokens = 50}, kOneSlot);
  f.occupy();
  const RequestId longest = f.submit({.prompt = counting_prompt(300), .max_tokens = 1});
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(1), .max_tokens = 1}), ErrorCode::kBusy);
  f.gate.open();
  f.mailbox.wait_for_end(longest);
  EXPECT_EQ(f.idle_stats().n_waiting_tokens, 0);
}

TEST(EngineThread, RequestThatCanNeverRun_IsRefusedAtOnce) {
  ThreadFixture f;
  EXPECT_EQ(f.refusal({.prompt = {}}), ErrorCode::kUsage);
  EXPECT_EQ(f.refusal({.prompt = {kVocab}}), ErrorCode::kUsage);
  EXPECT_EQ(f.refusal({.prompt = {1}, .n_choices = 1000000000}), ErrorCode::kUsage);
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(500)}), ErrorCode::kOutOfResources);
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(10), .max_tokens = 40 * kPageTokens}), ErrorCode::kOutOfResources);
  EXPECT_EQ(f.refusal({.prompt = counting_prompt(10), .max_tokens = 2147483647}), ErrorCode::kOutOfResources);
  const RequestId id = f.submit({.prompt = counting_prompt(10), .max_tokens = 40 * kPageTokens - 10});
  EXPECT_EQ(f.mailbox.wait_for_end(id).finish->reason, FinishReason::kLength);  // of the context
}

TEST(EngineThread, Cancel_WorksFromAnyThreadAndOnAnything) {
  ThreadFixture f;
  f.engine->cancel(77);
  const RequestId id = f.occupy();
  std::thread([&] { f.engine->cancel(id); }).join();
  f.gate.open();
  const testing::Output output = f.mailbox.wait_for_end(id);
  EXPECT_EQ(output.finish->reason, FinishReason::kCancelled);
  f.engine->cancel(id);
  EXPECT_EQ(f.idle_stats().n_pages_used, 0);
}

TEST(EngineThread, Deadline_EndsWhatWaitsAndWhatRuns) {
  ThreadFixture f;
  f.gate.close();
  const EngineTime soon = EngineTime() + std::chrono::seconds(3700);
  const RequestId runs = f.submit({.prompt = counting_prompt(5), .deadline = soon});
  f.gate.wait_until_held();
  const RequestId waits = f.submit({.prompt = counting_prompt(6), .deadline = soon});
  f.seconds = 3701;
  f.gate.open();
  EXPECT_EQ(f.mailbox.wait_for_end(runs).finish->reason, FinishReason::kDeadline);
  EXPECT_EQ(f.mailbox.wait_for_end(waits).finish->reason, FinishReason::kDeadline);
}

TEST(EngineThread, Stop_EndsWhatIsLeftAndRefusesMore) {
  ThreadFixture f;
  const std::vector<RequestId> ids = {f.occupy(), f.submit({.prompt = counting_prompt(9)})};
  std::thread other([&] { f.engine->stop(); });
  f.gate.open();
  f.engine->stop();
  other.join();
  for (const RequestId id : ids) {
    const testing::Output output = f.mailbox.wait_for_end(id);
    if (output.finish->reason == FinishReason::kLength) continue;  // it got its 20 tokens before the stop
    ASSERT_EQ(output.finish->reason, FinishReason::kError);
    EXPECT_EQ(output.finish->error->code, ErrorCode::kInterrupted);
  }
  EXPECT_EQ(f.refusal({.prompt = {1}}), ErrorCode::kInterrupted);
  EXPECT_EQ(f.engine->failure(), std::nullopt);
  EXPECT_EQ(f.engine->stats().n_pages_used, 0);
}

TEST(EngineThread, FailureOfTheExecutor_EndsEveryRequestAndStays) {
  ThreadFixture f;
  f.gate.close();
  f.executor.fail_at = 3;
  std::vector<RequestId> ids;
  for (int i = 0; i < 8; ++i) ids.push_back(f.submit({.prompt = counting_prompt(5, i)}));
  f.gate.open();
  for (const RequestId id : ids) {
    const testing::Output output = f.mailbox.wait_for_end(id);
    EXPECT_EQ(output.finish->reason, FinishReason::kError);
    EXPECT_EQ(output.finish->error->code, ErrorCode::kBackend);
  }
  f.engine->stop();
  ASSERT_TRUE(f.engine->failure().has_value());
  EXPECT_EQ(f.engine->failure()->code, ErrorCode::kBackend);
  EXPECT_EQ(f.refusal({.prompt = {1}}), ErrorCode::kBackend);
}

TEST(EngineThread, Progress_SaysSinceWhenAStepIsDue) {
  ThreadFixture f;
  EXPECT_FALSE(f.engine->progress().has_work);
  f.seconds = 4000;
  const RequestId id = f.occupy();
  f.seconds = 5000;  // nothing completes meanwhile
  EXPECT_TRUE(f.engine->progress().has_work);
  EXPECT_EQ(f.engine->progress().since, EngineTime() + std::chrono::seconds(4000));
  f.gate.open();
  f.mailbox.wait_for_end(id);
  f.engine->stop();
  EXPECT_FALSE(f.engine->progress().has_work);
  EXPECT_EQ(f.engine->progress().since, EngineTime() + std::chrono::seconds(5000));
}

TEST(EngineThread, Sink_MaySubmitAndCancel) {
  ThreadFixture f;
  std::atomic<RequestId> next = 0;
  const RequestId endless = f.submit({.prompt = counting_prompt(20)});
  const Result<RequestId> first =
      f.engine->submit({.prompt = counting_prompt(5), .max_tokens = 2}, [&](RequestId, const OutputDelta& delta) {
        if (!delta.finish) return;
        f.engine->cancel(endless);
        next = f.submit({.prompt = counting_prompt(8), .max_tokens = 4});
        next.notify_one();
      });
  ASSERT_TRUE(first.ok());
  next.wait(0);
  EXPECT_EQ(f.mailbox.wait_for_end(next).tokens.size(), 4u);
  f.mailbox.wait_for_end(endless);
}

TEST(EngineThread, SinkOfARequestThatEnded_IsLetGo) {
  ThreadFixture f;
  const auto held = std::make_shared<Mailbox>();
  const std::weak_ptr<Mailbox> watch = held;
  const Result<RequestId> id = f.engine->submit(
      {.prompt = counting_prompt(5), .max_tokens = 2},
      [held, sink = held->sink()](RequestId request, const OutputDelta& delta) { sink(request, delta); });
  ASSERT_TRUE(id.ok());
  held->wait_for_end(*id);
  EXPECT_GT(watch.use_count(), 0);
  // A later request has gone through the engine's inbox: nothing of the first is left there or in the engine.
  f.mailbox.wait_for_end(f.submit({.prompt = counting_prompt(6), .max_tokens = 2}));
  EXPECT_EQ(watch.use_count(), 1);
}

}  // namespace
}  // namespace spate
