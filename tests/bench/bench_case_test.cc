// The cases of a list and the steps of a case, looked at batch by batch.
#include "bench/bench_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::testing {
namespace {

using ::testing::ElementsAre;

constexpr int kVocabSize = 1000;

BenchSteps steps_of(const BenchCase& bench_case, int max_step_tokens) {
  return BenchSteps(bench_case, max_step_tokens, kVocabSize, 7);
}

// Checks every step against the contract of the seam and returns the tokens of each.
std::vector<int> checked_sizes(const std::vector<StepBatch>& steps, const BenchCase& bench_case, int max_step_tokens) {
  const auto limits = bench_limits({bench_case}, max_step_tokens);
  EXPECT_TRUE(limits.ok());
  std::vector<int> sizes;
  for (const StepBatch& step : steps) {
    check_batch(step, *limits, kVocabSize);
    sizes.push_back(step.n_tokens());
  }
  return sizes;
}

TEST(BenchCases, ListsOfEverything_CombineWhatEachTestUses) {
  const auto cases = bench_cases({.tests = {BenchTest::kPrefill, BenchTest::kDecode, BenchTest::kMixed},
                                  .prompt = {0, 64, 128},
                                  .generate = {16},
                                  .batch = {1, 4},
                                  .depth = {0, 32}});
  // 2 prompts x 2 x 2; 1 generation x 2 x 2; 2 x 1 x 2 x 2.
  ASSERT_EQ(cases.size(), 8u + 4u + 8u);
  EXPECT_EQ(cases[0], (BenchCase{.test = BenchTest::kPrefill, .n_prompt = 64, .batch = 1, .depth = 0}));
  EXPECT_EQ(cases[1], (BenchCase{.test = BenchTest::kPrefill, .n_prompt = 64, .batch = 4, .depth = 0}));
  EXPECT_EQ(cases[2], (BenchCase{.test = BenchTest::kPrefill, .n_prompt = 64, .batch = 1, .depth = 32}));
  EXPECT_EQ(cases[8], (BenchCase{.test = BenchTest::kDecode, .n_generate = 16, .batch = 1, .depth = 0}));
  EXPECT_EQ(cases[19],
            (BenchCase{.test = BenchTest::kMixed, .n_prompt = 128, .n_generate = 16, .batch = 4, .depth = 32}));
}

TEST(BenchCases, NothingToRun_IsNoCase) {
  EXPECT_TRUE(bench_cases({.tests = {BenchTest::kPrefill, BenchTest::kDecode, BenchTest::kMixed},
                           .prompt = {0},
                           .generate = {0},
                           .batch = {1},
                           .depth = {0}})
                  .empty());
}

TEST(BenchLimits, SeveralCases_FitTheLargest) {
  const auto limits =
      bench_limits({{.test = BenchTest::kPrefill, .n_prompt = 100, .batch = 2, .depth = 33},
                    {.test = BenchTest::kDecode, .n_generate = 8, .batch = 40, .depth = 0},
                    {.test = BenchTest::kMixed, .n_prompt = 90, .n_generate = 2, .batch = 3, .depth = 5}},
                   16);
  ASSERT_TRUE(limits.ok());
  EXPECT_EQ(limits->max_seqs, 40);
  EXPECT_EQ(limits->max_step_tokens, 48);  // 3 sequences and half of 90; the prefill is cut to what is given
  EXPECT_EQ(limits->n_pages, 40);          // 40 x 1; the prefill takes 2 x 5, the mixed case 4 x 3
}

TEST(BenchLimits, MorePagesThanCanBeCounted_AreRefused) {
  const auto limits =
      bench_limits({{.test = BenchTest::kDecode, .n_generate = 1, .batch = 1 << 16, .depth = 1 << 24}}, 512);
  ASSERT_FALSE(limits.ok());
  EXPECT_EQ(limits.error().code, ErrorCode::kOutOfResources);
  EXPECT_THAT(limits.error().message, ::testing::HasSubstr("65536 sequences"));
}

TEST(BenchSteps, Prefill_ReadsEveryPromptInWholeSteps) {
  const BenchCase c{.test = BenchTest::kPrefill, .n_prompt = 100, .batch = 3, .depth = 40};
  EXPECT_EQ(c.n_tokens(), 300);
  const auto steps = steps_of(c, 64).measured();
  EXPECT_THAT(checked_sizes(steps, c, 64), ElementsAre(64, 64, 64, 64, 44));
  std::vector<int> length(3, 40);
  int n_rows = 0, n_begun = 0;
  for (const StepBatch& step : steps) {
    for (const SlotOp& op : step.slot_ops) {
      EXPECT_EQ(op.history.size(), 40u);
      ++n_begun;
    }
    for (int s = 0; s < step.n_seqs(); ++s) {
      length[step.slot[s]] += step.q_start[s + 1] - step.q_start[s];
      EXPECT_EQ(step.kv_len[s], length[step.slot[s]]) << "a sequence goes on where it was";
    }
    n_rows += step.n_rows();
  }
  EXPECT_THAT(length, ElementsAre(140, 140, 140));
  EXPECT_EQ(n_rows, 3) << "each prompt draws one token, at its end";
  EXPECT_EQ(n_begun, 3);
}

TEST(BenchSteps, Fill_BringsEverySequenceToItsDepthAndDrawsNothing) {
  const BenchCase c{.test = BenchTest::kDecode, .n_generate = 4, .batch = 3, .depth = 50};
  const auto steps = steps_of(c, 64).fill();
  EXPECT_THAT(checked_sizes(steps, c, 64), ElementsAre(64, 64, 22));
  std::vector<int> length(3);
  for (const StepBatch& step : steps) {
    EXPECT_EQ(step.n_rows(), 0);
    for (int s = 0; s < step.n_seqs(); ++s) length[step.slot[s]] = step.kv_len[s];
  }
  EXPECT_THAT(length, ElementsAre(50, 50, 50));
  EXPECT_TRUE(steps_of({.test = BenchTest::kDecode, .n_generate = 4}, 64).fill().empty());
}

TEST(BenchSteps, Decode_ContinuesWhatTheStepBeforeDrew) {
  const BenchCase c{.test = BenchTest::kDecode, .n_generate = 5, .batch = 3, .depth = 31};
  EXPECT_EQ(c.n_tokens(), 15);
  const auto steps = steps_of(c, 64).measured();
  EXPECT_THAT(checked_sizes(steps, c, 64), ElementsAre(3, 3, 3, 3, 3));
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_THAT(steps[i].from_row, i == 0 ? ElementsAre(-1, -1, -1) : ElementsAre(0, 1, 2));
    EXPECT_THAT(steps[i].kv_len, ::testing::Each(32 + static_cast<int>(i)));
    EXPECT_EQ(steps[i].n_rows(), 3);
    EXPECT_EQ(steps[i].slot_ops.size(), i == 0 ? 3u : 0u);
    for (const Row& row : steps[i].rows) EXPECT_EQ(row.kind, RowKind::kSample);
  }
  for (const SlotOp& op : steps[0].slot_ops) EXPECT_EQ(op.history.size(), 31u);
}

TEST(BenchSteps, Mixed_SharesThePromptOutOverTheSteps) {
  const BenchCase c{.test = BenchTest::kMixed, .n_prompt = 10, .n_generate = 4, .batch = 2, .depth = 3};
  EXPECT_EQ(c.n_tokens(), 18);
  const auto steps = steps_of(c, 64).measured();
  EXPECT_THAT(checked_sizes(steps, c, 64), ElementsAre(4, 5, 4, 5));
  EXPECT_EQ(steps[0].slot_ops.size(), 3u);
  EXPECT_THAT(steps[1].from_row, ElementsAre(0, 1, -1, -1, -1));
  EXPECT_EQ(steps[2].n_rows(), 2);
  EXPECT_EQ(steps[3].n_rows(), 3) << "the prompt draws at its end";
  EXPECT_THAT(steps[3].kv_len, ElementsAre(7, 7, 10));
}

TEST(BenchSteps, MixedWithAShortPrompt_LeavesSomeStepsWithoutIt) {
  const BenchCase c{.test = BenchTest::kMixed, .n_prompt = 2, .n_generate = 5, .batch = 1, .depth = 0};
  const auto steps = steps_of(c, 64).measured();
  EXPECT_THAT(checked_sizes(steps, c, 64), ElementsAre(1, 1, 2, 1, 2));
  EXPECT_EQ(steps[2].slot_ops.size(), 1u) << "its slot begins where it first appears";
}

}  // namespace
}  // namespace spate::testing
