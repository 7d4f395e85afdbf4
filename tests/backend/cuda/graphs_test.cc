// Decode steps as graphs: which batch sizes have one, that they compute what launched kernels do, and that nothing is
// captured or allocated once an executor is made.
#include <deque>
#include <gtest/gtest.h>
#include <random>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/step_graphs.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::pages_of;
using spate::testing::score_tokens;
using spate::testing::TemporaryFolder;
using ::testing::ElementsAre;

TEST(DecodeBuckets, EndAtTheLargestBatch) {
  EXPECT_TRUE(decode_buckets(0).empty());
  EXPECT_EQ(decode_buckets(1), std::vector<int>{1});
  EXPECT_EQ(decode_buckets(5), (std::vector<int>{1, 2, 4, 5}));
  EXPECT_EQ(decode_buckets(64), (std::vector<int>{1, 2, 4, 8, 12, 16, 24, 32, 48, 64}));
  EXPECT_EQ(decode_buckets(200), (std::vector<int>{1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 200}));
}

TEST(DecodeBuckets, FindBucket_IsTheSmallestThatHolds) {
  std::vector<StepGraphs> graphs(3);
  graphs[0].n_tokens = 1;
  graphs[1].n_tokens = 4;
  graphs[2].n_tokens = 8;
  EXPECT_EQ(find_bucket(graphs, 1), &graphs[0]);
  EXPECT_EQ(find_bucket(graphs, 2), &graphs[1]);
  EXPECT_EQ(find_bucket(graphs, 4), &graphs[1]);
  EXPECT_EQ(find_bucket(graphs, 8), &graphs[2]);
  EXPECT_EQ(find_bucket(graphs, 9), nullptr);
  EXPECT_EQ(find_bucket({}, 1), nullptr);
}

// Sequences that join, decode and leave as a seeded generator says, the tokens handed from step to step on the device.
class Crowd {
 public:
  Crowd(CudaExecutor& executor, uint32_t seed) : executor_(executor), random_(seed) {
    for (int s = executor.limits().max_seqs; s > 0; --s) free_slots_.push_back(s - 1);
    for (int p = executor.limits().n_pages; p > 0; --p) free_pages_.push_back(p - 1);
  }

  // Enqueues a step in which every running sequence decodes and perhaps one joins with a prompt; waits for the step
  // before the last.
  void step() {
    if (running_.empty() || random_() % 8 == 0) join();
    StepBatch batch;
    batch.q_start = {0};
    batch.groups.emplace_back().start = {0};
    for (Sequence& sequence : running_) add(batch, sequence);
    in_flight_.push_back({executor_.enqueue(batch), batch.n_rows()});
    if (in_flight_.size() == kMaxStepsInFlight) collect();
    leave();
  }

  void finish() {
    while (!in_flight_.empty()) collect();
  }

  int n_tokens_drawn() const { return n_drawn_; }

 private:
  struct Sequence {
    int32_t slot;
    std::vector<int32_t> pages;
    int n_left;       // tokens to draw
    int n_prompt;     // 0 once it has run
    int kv_len;       // so far
    int32_t row = 0;  // of the step before, that drew its next token
  };

  void join() {
    if (free_slots_.empty() || free_pages_.size() < 4) return;
    Sequence sequence{.slot = free_slots_.back(),
                      .pages = {},
                      .n_left = 1 + static_cast<int>(random_() % 90),
                      .n_prompt = 1 + static_cast<int>(random_() % 30),
                      .kv_len = 0};
    free_slots_.pop_back();
    for (int i = 0; i < 4; ++i) {
      sequence.pages.push_back(free_pages_.back());
      free_pages_.pop_back();
    }
    running_.push_back(std::move(sequence));
  }

  void add(StepBatch& batch, Sequence& sequence) {
    const int n = std::max(1, sequence.n_prompt);
    for (int i = 0; i < n; ++i) {
      batch.tokens.push_back(static_cast<int32_t>(random_() % 300));
      batch.from_row.push_back(sequence.n_prompt > 0 ? -1 : sequence.row);
    }
    if (sequence.n_prompt > 0) {
      const bool warm = random_() % 2 == 0;
      batch.slot_ops.push_back({.slot = sequence.slot,
                                .sampling = {.repetition_penalty = warm && random_() % 2 == 0 ? 1.1f : 1.0f,
                                             .temperature = warm ? 0.8f : 0.0f,
                                             .top_k = 20,
                                             .seed = random_()},
                                .n_prompt_tokens = sequence.n_prompt});
    }
    sequence.n_prompt = 0;
    sequence.kv_len += n;
    sequence.row = batch.n_rows();
    batch.rows.push_back({.token_index = batch.n_tokens() - 1, .slot = sequence.slot});
    batch.slot.push_back(sequence.slot);
    batch.q_start.push_back(batch.n_tokens());
    batch.kv_len.push_back(sequence.kv_len);
    PageTable& table = batch.groups[0];
    const auto end = sequence.pages.begin() + pages_of(sequence.kv_len);
    table.pages.insert(table.pages.end(), sequence.pages.begin(), end);
    table.start.push_back(static_cast<int32_t>(table.pages.size()));
    --sequence.n_left;
  }

  // The slots and pages of those that are done go back. Steps run in order, so the next owner's step runs after the
  // last of theirs.
  void leave() {
    std::erase_if(running_, [&](const Sequence& sequence) {
      if (sequence.n_left > 0) return false;
      free_slots_.push_back(sequence.slot);
      free_pages_.insert(free_pages_.end(), sequence.pages.begin(), sequence.pages.end());
      return true;
    });
  }

  void collect() {
    const auto [id, n_rows] = in_flight_.front();
    in_flight_.pop_front();
    const Result<StepOutput> output = executor_.wait(id);
    ASSERT_TRUE(output.ok()) << output.error().message;
    ASSERT_EQ(static_cast<int>(output->rows.size()), n_rows);
    for (const RowOutput& row : output->rows) {
      ++n_drawn_;
      ASSERT_TRUE(row.token >= 0 && row.token < 320 && row.logprob <= 0) << row.token << " at " << row.logprob;
    }
  }

  CudaExecutor& executor_;
  std::mt19937 random_;
  std::vector<int32_t> free_slots_, free_pages_;
  std::vector<Sequence> running_;
  std::deque<std::pair<StepId, int>> in_flight_;
  int n_drawn_ = 0;
};

TEST(StepGraphs, TenThousandStepsWithJoinsAndLeaves_CaptureAndAllocateNothing) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.types = {QuantType::kQ4_K, QuantType::kQ6_K}}, folder.path("model.gguf"));
  const auto executor = make_executor(model, {.max_seqs = 40, .max_step_tokens = 128, .n_pages = 160});
  ASSERT_NE(executor, nullptr);
  Crowd crowd(*executor, 1);
  const int64_t captures = n_captures(), allocations = n_allocations(), free_bytes = free_device_bytes();
  EXPECT_GE(captures, 3 * static_cast<int64_t>(decode_buckets(40).size()));
  for (int i = 0; i < 10'000 && !HasFatalFailure(); ++i) crowd.step();
  crowd.finish();
  EXPECT_EQ(n_captures(), captures);
  EXPECT_EQ(n_allocations(), allocations);
  EXPECT_EQ(free_device_bytes(), free_bytes) << "the driver took memory";
  EXPECT_GT(crowd.n_tokens_drawn(), 20'000);
  const CudaExecutor::Counters counters = executor->counters();
  std::printf("layers: %ld replayed, %ld launched; rows: %ld replayed, %ld launched\n",
              static_cast<long>(counters.layers_replayed), static_cast<long>(counters.layers_launched),
              static_cast<long>(counters.rows_replayed), static_cast<long>(counters.rows_launched));
  EXPECT_EQ(counters.layers_replayed + counters.layers_launched, 10'000);
  EXPECT_GT(counters.layers_replayed, 8'000);  // of those without a prompt, all
  EXPECT_GE(counters.rows_replayed, counters.layers_replayed);
}

// Padding must change no bit: a step in a larger bucket, through a graph, is the step that was launched for itself
// alone with the bucket's kernels.
TEST(StepGraphs, ReplayedSteps_SameAsLaunchedOnes) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.types = {QuantType::kQ5_K, QuantType::kQ8_0}}, folder.path("model.gguf"));
  const ExecutorLimits limits{.max_seqs = 16, .max_step_tokens = 64, .n_pages = 64};
  const auto replaying = make_executor(model, limits);
  const auto launching =
      make_executor(model, limits, [](CudaExecutorOptions& options) { options.profile.graphs = false; });
  ASSERT_TRUE(replaying != nullptr && launching != nullptr);
  const std::vector<int32_t> tokens = random_tokens(100, 320, 7);
  EXPECT_EQ(score_tokens(*replaying, tokens, {.step_tokens = 1}).next_logprob,
            score_tokens(*launching, tokens, {.step_tokens = 1}).next_logprob);
  EXPECT_EQ(replaying->counters().layers_replayed, 100);
  EXPECT_EQ(replaying->counters().rows_replayed, 100);
  EXPECT_EQ(launching->counters().layers_launched, 100);
}

}  // namespace
}  // namespace spate::cuda::testing
