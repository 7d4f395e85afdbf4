#include "engine/engine.h"

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;
using testing::fake_logprob;
using testing::hashed_draw;
using testing::tokens_alone;

constexpr int kVocab = EngineFixture::kVocab;

EngineOptions with_steps_in_flight(int n) {
  return {.vocab_size = kVocab, .context_tokens = 500, .max_steps_in_flight = n};
}

class StepsInFlight : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Engine, StepsInFlight, ::testing::Values(1, 2));

TEST_P(StepsInFlight, OneRequest_GetsItsTokensAndEndsByLength) {
  EngineFixture f({4, 64, 40}, with_steps_in_flight(GetParam()));
  Request request{.prompt = counting_prompt(150), .max_tokens = 40};
  request.sampling.seed = 9;
  const RequestId id = f.submit(request);
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[id].tokens, tokens_alone(request, 40, hashed_draw(kVocab)));
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kLength);
  EXPECT_EQ(f.executor.n_enqueued(), 3u + 39u);  // 150 tokens in chunks of 64, the last of which draws the first token
  f.expect_all_free();
}

TEST_P(StepsInFlight, ManyRequests_EachGetsWhatItWouldAlone) {
  EngineFixture f({4, 64, 40}, with_steps_in_flight(GetParam()));
  std::map<RequestId, Request> requests;
  for (int i = 0; i < 12; ++i) {
    Request request{.prompt = counting_prompt(1 + 17 * i, i), .max_tokens = 5 + 3 * i, .stop_tokens = {3, 50}};
    request.sampling.seed = i;
    requests[f.submit(request)] = request;
  }
  f.engine.run_until_idle();
  for (const auto& [id, request] : requests)
    EXPECT_EQ(f.recorder[id].tokens, tokens_alone(request, *request.max_tokens, hashed_draw(kVocab))) << id;
  f.expect_all_free();
}

TEST_P(StepsInFlight, StopToken_IsTheLastTokenAndEndsTheRequest) {
  EngineFixture f({4, 64, 40}, with_steps_in_flight(GetParam()));
  f.executor.draw = [](std::span<const int32_t> context, const SamplingParams&) {
    return static_cast<int32_t>(context.size());
  };
  const RequestId id = f.submit({.prompt = counting_prompt(10), .max_tokens = 50, .stop_tokens = {14, 99}});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[id].tokens, (std::vector<int32_t>{10, 11, 12, 13, 14}));
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kStop);
  EXPECT_EQ(f.recorder[id].finish->end_token, 14);
  // With two steps in flight the sequence ran once more before its end was known; that token was dropped.
  EXPECT_EQ(f.executor.n_enqueued(), GetParam() == 1 ? 5u : 6u);
  f.expect_all_free();
}

TEST_P(StepsInFlight, FromRow_IsUsedOnlyForTokensStillOnTheDevice) {
  EngineFixture f({4, 64, 40}, with_steps_in_flight(GetParam()));
  int n_from_row = 0;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    for (const int32_t row : batch.from_row) n_from_row += row >= 0;
  };
  f.submit({.prompt = counting_prompt(5), .max_tokens = 10});
  f.engine.run_until_idle();
  EXPECT_EQ(n_from_row, GetParam() == 1 ? 0 : 9);
}

TEST(Engine, TwoStepsInFlight_AreKeptInFlight) {
  EngineFixture f;
  f.submit({.prompt = counting_prompt(5), .max_tokens = 10});
  EXPECT_TRUE(f.engine.step());
  EXPECT_EQ(f.executor.n_in_flight(), 1);
  int most = 0;
  f.executor.on_enqueue = [&](const StepBatch&) { most = std::max(most, f.executor.n_in_flight() + 1); };
  f.engine.run_until_idle();
  EXPECT_EQ(most, 2);
}

TEST(Engine, Idle_StepDoesNothing) {
  EngineFixture f;
  EXPECT_FALSE(f.engine.step());
  EXPECT_EQ(f.executor.n_enqueued(), 0u);
}

TEST(Engine, MaxTokensZero_ScoresThePromptAndEnds) {
  EngineFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(100), .max_tokens = 0, .prompt_logprobs = true});
  f.engine.run_until_idle();
  EXPECT_TRUE(f.recorder[id].tokens.empty());
  EXPECT_EQ(f.recorder[id].prompt.size(), 99u);
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kLength);
  f.expect_all_free();
}

TEST(Engine, PromptLogprobs_AreThoseOfEachNextTokenAcrossChunks) {
  EngineFixture f;
  const Request request{.prompt = counting_prompt(140), .max_tokens = 3, .n_logprobs = 2, .prompt_logprobs = true};
  const RequestId id = f.submit(request);
  f.engine.run_until_idle();
  const std::span prompt(request.prompt);
  ASSERT_EQ(f.recorder[id].prompt.size(), 139u);
  for (size_t i = 1; i < prompt.size(); ++i) {
    const PromptToken& scored = f.recorder[id].prompt[i - 1];
    EXPECT_EQ(scored.token, prompt[i]);
    EXPECT_EQ(scored.logprob, fake_logprob(prompt.first(i), prompt[i]));
    EXPECT_EQ(scored.arg_max, hashed_draw(kVocab)(prompt.first(i), request.sampling));
    ASSERT_EQ(scored.top.size(), 2u);
    EXPECT_EQ(scored.top[1].logprob, fake_logprob(prompt.first(i), 1));
  }
  EXPECT_EQ(f.recorder[id].tokens, tokens_alone(request, 3, hashed_draw(kVocab)));
}

TEST(Engine, Logprobs_ComeWithEachToken) {
  EngineFixture f;
  const Request request{.prompt = counting_prompt(9), .max_tokens = 6, .n_logprobs = 3};
  const RequestId id = f.submit(request);
  f.engine.run_until_idle();
  std::vector<int32_t> context = request.prompt;
  ASSERT_EQ(f.recorder[id].generated.size(), 6u);
  for (const GeneratedToken& token : f.recorder[id].generated) {
    EXPECT_EQ(token.logprob, fake_logprob(context, token.token));
    EXPECT_EQ(token.top.size(), 3u);
    context.push_back(token.token);
  }
}

TEST(Engine, SlotOp_CarriesSamplingBiasAndPromptLength) {
  EngineFixture f;
  std::vector<SlotOp> ops;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    ops.insert(ops.end(), batch.slot_ops.begin(), batch.slot_ops.end());
  };
  Request request{.prompt = counting_prompt(70), .max_tokens = 4, .logit_bias = {{5, -2.5f}}};
  request.sampling = {.repetition_penalty = 1.2f, .temperature = 0.7f, .seed = 77};
  f.submit(request);
  f.engine.run_until_idle();
  ASSERT_EQ(ops.size(), 1u);
  EXPECT_EQ(ops[0].sampling.repetition_penalty, 1.2f);
  EXPECT_EQ(ops[0].sampling.seed, 77u);
  EXPECT_EQ(ops[0].logit_bias.at(0).token, 5);
  EXPECT_EQ(ops[0].n_prompt_tokens, 70);
  EXPECT_TRUE(ops[0].history.empty());
}

TEST(Engine, FullContext_EndsByLength) {
  EngineFixture f({4, 64, 40}, {.vocab_size = kVocab, .context_tokens = 100});
  const RequestId unlimited = f.submit({.prompt = counting_prompt(90)});
  const RequestId wants_more = f.submit({.prompt = counting_prompt(99), .max_tokens = 50});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[unlimited].tokens.size(), 10u);
  EXPECT_EQ(f.recorder.reason(unlimited), FinishReason::kLength);
  EXPECT_EQ(f.recorder[wants_more].tokens.size(), 1u);
}

TEST(Engine, PoolSmallerThanTheContext_LimitsTheContext) {
  EngineFixture f({4, 64, 3}, {.vocab_size = kVocab, .context_tokens = 4096});
  EXPECT_EQ(f.engine.context_tokens(), 96);
  const RequestId id = f.submit({.prompt = counting_prompt(60)});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[id].tokens.size(), 36u);
  f.expect_all_free();
}

TEST(Engine, PromptThatFillsTheContext_CanOnlyBeScored) {
  EngineFixture f({4, 64, 40}, {.vocab_size = kVocab, .context_tokens = 100});
  const Result<RequestId> refused = f.engine.submit({.prompt = counting_prompt(100)}, f.recorder.sink());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfResources);
  EXPECT_NE(refused.error().message.find("100 tokens, and the context of 100 has no room for an answer"),
            std::string::npos)
      << refused.error().message;
  const RequestId id = f.submit({.prompt = counting_prompt(100), .max_tokens = 0});
  EXPECT_FALSE(f.engine.submit({.prompt = counting_prompt(101), .max_tokens = 0}, f.recorder.sink()).ok());
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kLength);
}

TEST(EngineCancel, Waiting_EndsWithoutRunning) {
  EngineFixture f({1, 64, 40});
  f.submit({.prompt = counting_prompt(5), .max_tokens = 10});
  const RequestId id = f.submit({.prompt = counting_prompt(5), .max_tokens = 10});
  f.engine.step();
  EXPECT_TRUE(f.engine.cancel(id));
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kCancelled);
  EXPECT_FALSE(f.engine.cancel(id));
  f.engine.run_until_idle();
  EXPECT_TRUE(f.recorder[id].tokens.empty());
  f.expect_all_free();
}

TEST(EngineCancel, DuringPrefill_FreesItsPagesOnceTheStepHasCompleted) {
  EngineFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(300), .max_tokens = 10});
  f.engine.step();
  EXPECT_TRUE(f.engine.cancel(id));
  EXPECT_EQ(f.engine.scheduler().pages().n_held(), 0);
  EXPECT_EQ(f.engine.scheduler().pages().n_coming(), 2);  // 64 tokens of it are running
  EXPECT_EQ(f.engine.scheduler().slots().n_pending(), 1);
  f.engine.run_until_idle();
  f.expect_all_free();
}

TEST(EngineCancel, WhileDecoding_DropsTheTokensInFlight) {
  EngineFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(5), .max_tokens = 100});
  const RequestId other = f.submit({.prompt = counting_prompt(6), .max_tokens = 20});
  while (f.recorder[id].tokens.size() < 7) f.engine.step();
  EXPECT_EQ(f.executor.n_in_flight(), 1);
  EXPECT_TRUE(f.engine.cancel(id));
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[id].tokens.size(), 7u);
  EXPECT_EQ(f.recorder[other].tokens.size(), 20u);
  f.expect_all_free();
}

TEST(EngineCancel, UnknownOrEnded_IsFalse) {
  EngineFixture f;
  EXPECT_FALSE(f.engine.cancel(1));
  const RequestId id = f.submit({.prompt = counting_prompt(5), .max_tokens = 1});
  f.engine.run_until_idle();
  EXPECT_FALSE(f.engine.cancel(id));
  EXPECT_EQ(f.recorder.reason(id), FinishReason::kLength);
}

TEST(EngineCancel, FromASink_EndsOneselfAndOthers) {
  EngineFixture f;
  const RequestId first = f.submit({.prompt = counting_prompt(5), .max_tokens = 50});
  const RequestId second = f.submit({.prompt = counting_prompt(6), .max_tokens = 50});
  f.recorder.on_delta = [&](RequestId id, const OutputDelta& delta) {
    if (id != first || delta.finish || f.recorder[first].tokens.size() < 3) return;
    EXPECT_TRUE(f.engine.cancel(second));  // whose row of the same step comes after this one
    EXPECT_TRUE(f.engine.cancel(first));
  };
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[first].tokens.size(), 3u);
  EXPECT_EQ(f.recorder[second].tokens.size(), 2u);
  EXPECT_EQ(f.recorder.reason(second), FinishReason::kCancelled);
  f.expect_all_free();
}

TEST(Engine, SubmitFromASink_Runs) {
  EngineFixture f;
  RequestId next = 0;
  f.recorder.on_delta = [&](RequestId, const OutputDelta& delta) {
    if (delta.finish && next == 0) next = f.submit({.prompt = counting_prompt(8), .max_tokens = 4});
  };
  f.submit({.prompt = counting_prompt(5), .max_tokens = 2});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[next].tokens.size(), 4u);
}

TEST(EngineFailure, OfTheExecutor_EndsEveryRequestWithTheError) {
  EngineFixture f({2, 64, 40});
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(f.submit({.prompt = counting_prompt(5), .max_tokens = 50}));  // 2 wait
  f.executor.fail_at = 6;
  f.engine.run_until_idle();
  for (const RequestId id : ids) {
    ASSERT_TRUE(f.recorder.finished(id));
    EXPECT_EQ(f.recorder.reason(id), FinishReason::kError);
    EXPECT_EQ(f.recorder[id].finish->error->code, ErrorCode::kBackend);
    EXPECT_EQ(f.recorder[id].finish->error->message, "the fake device fell off the bus");
  }
  EXPECT_EQ(f.recorder[ids[0]].tokens.size(), 5u);  // of the steps before
  const Result<RequestId> late = f.engine.submit({.prompt = {1}}, f.recorder.sink());
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kBackend);
  EXPECT_FALSE(f.engine.step());
  f.expect_all_free();
}

TEST(EngineFailure, SinkThatCancelsOthers_EndsEachOnce) {
  EngineFixture f;
  const RequestId first = f.submit({.prompt = counting_prompt(5)});
  const RequestId second = f.submit({.prompt = counting_prompt(5)});
  f.recorder.on_delta = [&](RequestId id, const OutputDelta& delta) {
    if (id == first && delta.finish) {
      EXPECT_TRUE(f.engine.cancel(second));
    }
  };
  f.executor.fail_at = 3;
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder.reason(first), FinishReason::kError);
  EXPECT_EQ(f.recorder.reason(second), FinishReason::kCancelled);
}

TEST(Engine, DestroyedWhileBusy_WaitsForItsSteps) {
  testing::FakeExecutor executor({4, 64, 40}, kVocab);
  {
    Engine engine(executor, nullptr, {.vocab_size = kVocab, .context_tokens = 100});
    ASSERT_TRUE(engine.submit({.prompt = {1, 2, 3}}, [](RequestId, const OutputDelta&) {}).ok());
    engine.step();
    EXPECT_EQ(executor.n_in_flight(), 1);
  }
  EXPECT_EQ(executor.n_in_flight(), 0);
}

}  // namespace
}  // namespace spate
