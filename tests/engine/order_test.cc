// Who is served when, who has to wait, and who gives way: priorities, shares of a step, preemption, deadlines.
#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;
using testing::tokens_alone;

constexpr int kVocab = EngineFixture::kVocab;
constexpr ExecutorLimits kOneSlot{.max_seqs = 1, .max_step_tokens = 64, .n_pages = 40};
constexpr ExecutorLimits kSixPages{.max_seqs = 4, .max_step_tokens = 64, .n_pages = 6};

std::vector<RequestId> order_of_ends(EngineFixture& f) {
  std::vector<RequestId> order;
  f.recorder.on_delta = [&](RequestId id, const OutputDelta& delta) {
    if (delta.finish) order.push_back(id);
  };
  f.engine.run_until_idle();
  return order;
}

int n_preemptions(EngineFixture& f, RequestId id) {
  return f.recorder[id].finish->cost.n_preemptions;
}

void expect_tokens_alone(EngineFixture& f, RequestId id, const Request& request) {
  EXPECT_EQ(f.recorder[id].tokens, tokens_alone(request, *request.max_tokens, f.executor.draw)) << id;
}

TEST(Priority, HigherGoesFirst_EqualsAsTheyCame) {
  EngineFixture f(kOneSlot);
  for (const int priority : {0, -1, 2, 0, 2, kMinPriority, kMaxPriority})
    f.submit({.prompt = counting_prompt(5), .max_tokens = 2, .priority = priority});
  EXPECT_EQ(order_of_ends(f), (std::vector<RequestId>{7, 3, 5, 1, 4, 2, 6}));
}

TEST(Priority, OlderThanItsHeadStart_NobodyOvertakes) {
  EngineFixture f(kOneSlot);
  f.submit({.prompt = counting_prompt(5), .max_tokens = 2});
  f.submit({.prompt = counting_prompt(6), .max_tokens = 2, .priority = -1});
  f.clock.advance(59);
  f.submit({.prompt = counting_prompt(7), .max_tokens = 2});
  f.clock.advance(2);
  f.submit({.prompt = counting_prompt(8), .max_tokens = 2});
  EXPECT_EQ(order_of_ends(f), (std::vector<RequestId>{1, 3, 2, 4}));
}

TEST(Priority, EndlessStreamOfHigherOnes_DoesNotStarve) {
  EngineFixture f(kOneSlot);
  f.executor.on_wait = [&](const StepBatch&) { f.clock.advance(0.5); };
  const RequestId low = f.submit({.prompt = counting_prompt(5), .max_tokens = 1, .priority = -1});
  int n_others = 0;
  while (!f.recorder.finished(low) && n_others < 1000) {
    while (f.engine.scheduler().waiting().size() < 4) {
      f.submit({.prompt = counting_prompt(6), .max_tokens = 2});
      ++n_others;
    }
    f.engine.step();
  }
  EXPECT_TRUE(f.recorder.finished(low));
  EXPECT_GT(n_others, 40);  // a minute's worth went first
  f.engine.run_until_idle();
}

TEST(StepShares, ShortPrompt_DoesNotWaitForALongOne) {
  EngineFixture f({4, 32, 40});
  const RequestId longer = f.submit({.prompt = counting_prompt(400), .max_tokens = 1});
  f.engine.step();
  const RequestId shorter = f.submit({.prompt = counting_prompt(10, 3), .max_tokens = 1});
  for (int i = 0; i < 3; ++i) f.engine.step();
  EXPECT_TRUE(f.recorder.finished(shorter));
  EXPECT_FALSE(f.recorder.finished(longer));
  f.engine.run_until_idle();
}

TEST(StepShares, StreamOfShortPrompts_LeavesALongOneHalfOfEachStep) {
  EngineFixture f({8, 32, 40});
  const RequestId longer = f.submit({.prompt = counting_prompt(320), .max_tokens = 1});
  int n_steps = 0;
  for (; !f.recorder.finished(longer); ++n_steps) {
    for (int i = 0; i < 3; ++i) f.submit({.prompt = counting_prompt(20, i), .max_tokens = 1});
    f.engine.step();
  }
  EXPECT_LE(n_steps, 320 / 16 + 2);
  f.engine.run_until_idle();
}

TEST(Admission, TakesWhatIsNeededNow_NotTheWorstCase) {
  EngineFixture f(kSixPages);
  for (int i = 0; i < 3; ++i) f.submit({.prompt = counting_prompt(20, i), .max_tokens = 150});  // up to 6 pages each
  f.engine.step();
  EXPECT_EQ(f.engine.scheduler().running().size(), 3u);
  f.engine.run_until_idle();
  f.expect_all_free();
}

TEST(Admission, WhoDoesNotFitYet_HoldsUpThoseBehind) {
  EngineFixture f(kSixPages);
  const RequestId first = f.submit({.prompt = counting_prompt(100, 1), .max_tokens = 20});
  const RequestId second = f.submit({.prompt = counting_prompt(100, 2), .max_tokens = 1});
  const RequestId third = f.submit({.prompt = counting_prompt(5, 3), .max_tokens = 5});
  while (!f.recorder.finished(first)) {
    EXPECT_TRUE(f.recorder[second].tokens.empty() && f.recorder[third].tokens.empty());
    f.engine.step();
  }
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[third].tokens.size(), 5u);
}

TEST(Preemption, YoungestGivesWay_AndEverybodyFinishes) {
  EngineFixture f(kSixPages);
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back({.prompt = counting_prompt(20, i), .max_tokens = 150});
    requests.back().sampling.seed = static_cast<uint64_t>(i);
    f.submit(requests.back());
  }
  EXPECT_EQ(order_of_ends(f), (std::vector<RequestId>{1, 2, 3}));
  for (RequestId id = 1; id <= 3; ++id) expect_tokens_alone(f, id, requests[id - 1]);
  EXPECT_EQ(n_preemptions(f, 1), 0);
  EXPECT_GT(n_preemptions(f, 2), 0);
  EXPECT_GT(n_preemptions(f, 3), 0);
  EXPECT_EQ(f.stats().n_preemptions, static_cast<uint64_t>(n_preemptions(f, 2) + n_preemptions(f, 3)));
  f.expect_all_free();
}

TEST(Preemption, LowestPriorityGivesWay_HoweverOld) {
  EngineFixture f(kSixPages);
  const RequestId low = f.submit({.prompt = counting_prompt(20, 1), .max_tokens = 150, .priority = -1});
  f.clock.advance(5);
  const RequestId older = f.submit({.prompt = counting_prompt(20, 2), .max_tokens = 100});
  const RequestId younger = f.submit({.prompt = counting_prompt(20, 3), .max_tokens = 60});
  f.engine.run_until_idle();
  EXPECT_GT(n_preemptions(f, low), 0);
  EXPECT_EQ(n_preemptions(f, older), 0);
  EXPECT_EQ(n_preemptions(f, younger), 0);
}

// Two sequences that grow until the second gives way. Calls back with each batch after that.
struct PreemptionFixture : EngineFixture {
  explicit PreemptionFixture(const Request& second_request)
      : EngineFixture(
            {.max_seqs = 4, .max_step_tokens = 64, .n_pages = 6},
            {.vocab_size = kVocab, .context_tokens = 500, .kv_reuse = KvReuse::kNone, .max_decode_stretch = 0}) {
    first = submit({.prompt = counting_prompt(20, 1), .max_tokens = 120});
    second = submit(second_request);
    while (stats().n_preemptions == 0) engine.step();
  }
  RequestId first, second;
};

TEST(Preemption, PreemptedOnes_ComeBackBeforeNewOnes) {
  PreemptionFixture f({.prompt = counting_prompt(20, 2), .max_tokens = 120});
  const RequestId newcomer = f.submit({.prompt = counting_prompt(3), .max_tokens = 1});
  std::vector<int32_t> prompts_admitted;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    for (const SlotOp& op : batch.slot_ops) prompts_admitted.push_back(op.n_prompt_tokens);
  };
  f.engine.run_until_idle();
  EXPECT_EQ(prompts_admitted, (std::vector<int32_t>{20, 3}));
  EXPECT_TRUE(f.recorder.finished(newcomer));
}

TEST(Preemption, ComesBackWithAllThatItsDrawsDependOn) {
  Request request{.prompt = counting_prompt(20, 2), .max_tokens = 120, .logit_bias = {{5, -2.5f}}};
  request.sampling = {.repetition_penalty = 1.2f, .temperature = 0.7f, .seed = 77};
  PreemptionFixture f(request);
  std::vector<int32_t> run_again;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    if (batch.slot_ops.empty()) return;
    const SlotOp& op = batch.slot_ops.at(0);
    EXPECT_EQ(op.n_prompt_tokens, 20);
    EXPECT_EQ(op.sampling.seed, 77u);
    EXPECT_EQ(op.sampling.repetition_penalty, 1.2f);
    EXPECT_EQ(op.logit_bias.size(), 1u);
    run_again = op.history;
    const int s = batch.n_seqs() - 1;  // the newest comes last
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) run_again.push_back(batch.tokens[t]);
  };
  const std::vector<int32_t> drawn = f.recorder[f.second].tokens;
  f.engine.run_until_idle();
  std::vector<int32_t> known = request.prompt;
  const std::vector<int32_t> all = tokens_alone(request, 120, f.executor.draw);
  known.insert(known.end(), all.begin(), all.end());
  ASSERT_EQ(run_again.size(), 64u);  // a step's worth
  EXPECT_GT(drawn.size(), 44u);      // of what it had
  known.resize(64);
  EXPECT_EQ(run_again, known);
  EXPECT_EQ(f.recorder[f.second].tokens, all);
}

TEST(Preemption, InTheMiddleOfAPrompt_ScoresEachTokenOnce) {
  // Beside one that decodes, two tokens a step: the prompt is still being run when the other needs its pages.
  EngineFixture f(kSixPages,
                  {.vocab_size = kVocab, .context_tokens = 500, .max_step_tokens = 2, .max_decode_stretch = 0});
  const Request reader{.prompt = counting_prompt(20, 1), .max_tokens = 160};
  const Request scored{.prompt = counting_prompt(120, 2), .max_tokens = 2, .prompt_logprobs = true};
  const RequestId reads = f.submit(reader);
  for (int i = 0; i < 12; ++i) f.engine.step();
  const RequestId id = f.submit(scored);
  f.engine.run_until_idle();
  EXPECT_EQ(n_preemptions(f, reads), 0);
  EXPECT_EQ(n_preemptions(f, id), 1);
  ASSERT_EQ(f.recorder[id].prompt.size(), 119u);
  for (size_t i = 0; i < 119; ++i) EXPECT_EQ(f.recorder[id].prompt[i].token, scored.prompt[i + 1]);
  expect_tokens_alone(f, id, scored);
  expect_tokens_alone(f, reads, reader);
}

TEST(Places, OfARequestThatIsGone_AreFreeWithinTwoSteps) {
  for (const bool in_prefill : {false, true}) {
    EngineFixture f({2, 16, 40}, {.vocab_size = kVocab, .context_tokens = 500, .kv_reuse = KvReuse::kNone});
    f.submit({.prompt = counting_prompt(3), .max_tokens = 400});
    const RequestId goes = f.submit({.prompt = counting_prompt(in_prefill ? 300 : 10, 2), .max_tokens = 190});
    for (int i = 0; i < 8; ++i) f.engine.step();
    EXPECT_EQ(f.recorder[goes].tokens.empty(), in_prefill);
    f.engine.cancel(goes);
    const StepId at_cancel = f.executor.n_enqueued();
    const Scheduler& scheduler = f.engine.scheduler();
    while (scheduler.pages().n_pending() + scheduler.slots().n_pending() > 0) f.engine.step();
    EXPECT_LE(f.executor.n_enqueued(), at_cancel + 2);
    EXPECT_EQ(scheduler.slots().n_free(), 1);
    f.engine.run_until_idle();
  }
}

TEST(Deadline, EndsARequestWhereverItIs) {
  EngineFixture f({2, 16, 40});
  const EngineTime deadline = f.clock.in(10);
  const RequestId decodes = f.submit({.prompt = counting_prompt(3), .deadline = deadline});
  const RequestId reads = f.submit({.prompt = counting_prompt(300), .deadline = deadline});
  const RequestId waits = f.submit({.prompt = counting_prompt(4), .n_choices = 2, .deadline = deadline});
  const RequestId has_time = f.submit({.prompt = counting_prompt(5), .max_tokens = 3, .deadline = f.clock.in(11)});
  for (int i = 0; i < 5; ++i) f.engine.step();
  f.clock.advance(9.9);
  f.engine.step();
  EXPECT_FALSE(f.recorder.finished(decodes) || f.recorder.finished(reads) || f.recorder.finished(waits));
  f.clock.advance(0.1);
  f.engine.step();
  for (const RequestId id : {decodes, reads, waits}) EXPECT_EQ(f.recorder.reason(id), FinishReason::kDeadline) << id;
  EXPECT_EQ(f.recorder.of(waits, 1).finish->reason, FinishReason::kDeadline);
  EXPECT_GT(f.recorder[decodes].tokens.size(), 0u);
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder.reason(has_time), FinishReason::kLength);
  f.expect_all_free();
}

TEST(Deadline, InThePast_EndsBeforeAnythingRuns) {
  EngineFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(3), .deadline = f.clock.in(-1)});
  EXPECT_FALSE(f.engine.step());
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kDeadline);
  EXPECT_EQ(f.executor.n_enqueued(), 0u);
}

TEST(Cost, TimesAreThoseOfTheClockAndAddUp) {
  EngineFixture f(kOneSlot);
  f.executor.on_wait = [&](const StepBatch&) { f.clock.advance(1); };
  const RequestId first = f.submit({.prompt = counting_prompt(100), .max_tokens = 3});
  const RequestId second = f.submit({.prompt = counting_prompt(10, 50), .max_tokens = 1});
  f.engine.run_until_idle();
  const RequestCost cost = f.recorder[first].finish->cost;
  EXPECT_EQ(cost.n_prompt_tokens, 100);
  EXPECT_EQ(cost.n_generated_tokens, 3);
  EXPECT_EQ(cost.queue_seconds, 0);
  EXPECT_EQ(cost.prefill_seconds, 2);  // two chunks
  EXPECT_EQ(cost.decode_seconds, 2);
  EXPECT_EQ(f.recorder[second].finish->cost.queue_seconds, 4);
  EXPECT_EQ(f.recorder[second].finish->cost.prefill_seconds, 1);
  const EngineStats stats = f.stats();
  EXPECT_EQ(stats.n_steps, 5u);
  EXPECT_EQ(stats.step_seconds.count, 5u);
  EXPECT_EQ(stats.step_seconds.sum, 5);
  EXPECT_EQ(stats.step_tokens.sum, 100 + 2 + 10);
  EXPECT_EQ(stats.queue_seconds.sum, 4);
  EXPECT_EQ(stats.n_generated_tokens, 4u);
}

TEST(Cost, RequestThatNeverRan_SpentItsTimeInTheQueue) {
  EngineFixture f(kOneSlot);
  f.submit({.prompt = counting_prompt(100), .max_tokens = 3});
  const RequestId id = f.submit({.prompt = counting_prompt(10)});
  f.engine.step();
  f.clock.advance(7);
  f.engine.cancel(id);
  EXPECT_EQ(f.recorder[id].finish->cost.queue_seconds, 7);
  EXPECT_EQ(f.recorder[id].finish->cost.prefill_seconds, 0);
  f.engine.run_until_idle();
}

TEST(Histogram, Values_FallIntoTheFirstBucketThatHoldsThem) {
  Histogram histogram({1, 2, 4});
  for (const double value : {0.5, 1.0, 1.5, 4.0, 5.0}) histogram.add(value);
  EXPECT_EQ(histogram.counts, (std::vector<uint64_t>{2, 1, 1, 1}));
  EXPECT_EQ(histogram.count, 5u);
  EXPECT_EQ(histogram.sum, 12);
}

}  // namespace
}  // namespace spate
