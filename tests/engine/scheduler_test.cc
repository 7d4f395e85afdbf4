// The policy of scheduler.h, seen in the batches that reach the executor.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;
using testing::hashed_draw;
using testing::tokens_alone;

// Tokens that each sequence brings to each step, by slot.
std::vector<std::map<int32_t, int32_t>> record_steps(EngineFixture& f) {
  std::vector<std::map<int32_t, int32_t>> steps;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    steps.emplace_back();
    for (int s = 0; s < batch.n_seqs(); ++s) steps.back()[batch.slot[s]] = batch.q_start[s + 1] - batch.q_start[s];
  };
  f.engine.run_until_idle();
  return steps;
}

int total(const std::map<int32_t, int32_t>& step) {
  int n = 0;
  for (const auto& [slot, n_tokens] : step) n += n_tokens;
  return n;
}

TEST(Scheduler, LongPrompt_RunsInChunksOfTheBudget) {
  EngineFixture f({4, 64, 40}, {.vocab_size = 100, .context_tokens = 500, .max_step_tokens = 24});
  f.submit({.prompt = counting_prompt(60), .max_tokens = 2});
  const auto steps = record_steps(f);
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(total(steps[0]), 24);
  EXPECT_EQ(total(steps[1]), 24);
  EXPECT_EQ(total(steps[2]), 12);
  EXPECT_EQ(total(steps[3]), 1);
}

TEST(Scheduler, RunningSequences_DecodeInEveryStepBesideAPrompt) {
  EngineFixture f({4, 16, 40});
  const RequestId reader = f.submit({.prompt = counting_prompt(3), .max_tokens = 30});
  f.submit({.prompt = counting_prompt(100), .max_tokens = 1});
  const auto steps = record_steps(f);
  const int32_t reader_slot = steps[0].begin()->second == 3 ? steps[0].begin()->first : steps[0].rbegin()->first;
  EXPECT_EQ(total(steps[0]), 16);  // 3 tokens of the one, 13 of the other
  for (int i = 1; i < 6; ++i) {
    EXPECT_EQ(steps[i].at(reader_slot), 1) << "step " << i;
    EXPECT_EQ(total(steps[i]), 16);
  }
  EXPECT_EQ(f.recorder[reader].tokens.size(), 30u);
}

TEST(Scheduler, PromptBegunEarlier_IsFinishedFirst) {
  EngineFixture f({4, 32, 40});
  std::vector<RequestId> order;
  f.recorder.on_delta = [&](RequestId id, const OutputDelta& delta) {
    if (delta.finish) order.push_back(id);
  };
  for (int i = 0; i < 4; ++i) f.submit({.prompt = counting_prompt(80), .max_tokens = 1});
  f.engine.run_until_idle();
  EXPECT_EQ(order, (std::vector<RequestId>{1, 2, 3, 4}));
}

TEST(Scheduler, MoreSlotsThanBudget_NoMoreSequencesRunThanDecodeInAStep) {
  EngineFixture f({16, 64, 40}, {.vocab_size = 100, .context_tokens = 500, .max_step_tokens = 4});
  for (int i = 0; i < 16; ++i) f.submit({.prompt = counting_prompt(3, i), .max_tokens = 9});
  for (const auto& step : record_steps(f)) {
    EXPECT_LE(step.size(), 4u);
    EXPECT_LE(total(step), 4);
  }
  for (RequestId id = 1; id <= 16; ++id) EXPECT_EQ(f.recorder[id].tokens.size(), 9u);
}

TEST(Scheduler, LastTokenDrawn_NeedsNoPage) {
  EngineFixture f({1, 64, 1}, {.vocab_size = 100, .context_tokens = 500});
  const RequestId id = f.submit({.prompt = counting_prompt(kPageTokens - 2), .max_tokens = 2});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[id].tokens.size(), 2u);
  f.expect_all_free();
}

TEST(Scheduler, Pages_GrowWithTheSequence) {
  EngineFixture f;
  std::vector<size_t> n_pages;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    n_pages.push_back(batch.groups[0].pages.size());
    EXPECT_EQ(static_cast<int>(n_pages.back()), pages_for(batch.kv_len[0]));
  };
  f.submit({.prompt = counting_prompt(30), .max_tokens = 40});
  f.engine.run_until_idle();
  EXPECT_EQ(n_pages.front(), 1u);
  EXPECT_EQ(n_pages.back(), 3u);
}

TEST(Scheduler, Rows_AreAskedOnlyWhereWanted) {
  EngineFixture f({4, 32, 40});
  std::vector<int> n_rows;
  f.executor.on_enqueue = [&](const StepBatch& batch) { n_rows.push_back(batch.n_rows()); };
  f.submit({.prompt = counting_prompt(70), .max_tokens = 2});
  f.engine.run_until_idle();
  EXPECT_EQ(n_rows, (std::vector<int>{0, 0, 1, 1}));
  n_rows.clear();
  f.submit({.prompt = counting_prompt(70), .max_tokens = 2, .prompt_logprobs = true});
  f.engine.run_until_idle();
  EXPECT_EQ(n_rows, (std::vector<int>{32, 32, 6, 1}));  // 69 scores and the first draw; then the second draw
}

TEST(Scheduler, SlotOfASequenceInFlight_IsNotReusedBeforeItsStepCompletes) {
  // One slot: each next sequence needs the slot of the one before. FakeExecutor checks each reset against the steps in
  // flight.
  EngineFixture f({1, 64, 40});
  std::vector<Request> requests;
  for (int i = 0; i < 20; ++i) {
    Request request{.prompt = counting_prompt(3 + i, i), .max_tokens = 30, .stop_tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9}};
    f.submit(request);
    requests.push_back(request);
  }
  f.engine.run_until_idle();
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(f.recorder[i + 1].tokens, tokens_alone(requests[i], 30, hashed_draw(100))) << i;
}

}  // namespace
}  // namespace spate
