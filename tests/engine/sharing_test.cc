// KV that requests share: the prefix cache, and the choices of one request.
#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;
using testing::tokens_alone;

struct SharingFixture : EngineFixture {
  using EngineFixture::EngineFixture;

  // Runs the request to its end; how many tokens of its prompt went through the device.
  uint64_t n_run(const Request& request) {
    const uint64_t before = stats().n_prefill_tokens;
    const RequestId id = submit(request);
    engine.run_until_idle();
    expect_tokens_alone(id, request);
    return stats().n_prefill_tokens - before;
  }
  void expect_tokens_alone(RequestId id, const Request& request) {
    for (int choice = 0; choice < request.n_choices; ++choice) {
      Request alone = request;
      alone.sampling.seed += static_cast<uint64_t>(choice);
      EXPECT_EQ(recorder.of(id, choice).tokens, tokens_alone(alone, *request.max_tokens, executor.draw)) << choice;
    }
  }
};

TEST(PrefixCache, PromptThatBeginsLikeAnEarlierOne_SharesItsWholePages) {
  SharingFixture f;
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3}), 100u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3}), 4u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(120), .max_tokens = 3}), 24u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(50), .max_tokens = 3}), 18u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(31), .max_tokens = 3}), 31u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100, 2), .max_tokens = 3}), 100u);
  const EngineStats stats = f.stats();
  EXPECT_EQ(stats.n_prefix_lookups, 6u);
  EXPECT_EQ(stats.n_prefix_hits, 3u);
  EXPECT_EQ(stats.n_cached_tokens, 96u + 96u + 32u);
  EXPECT_EQ(stats.n_prompt_tokens, 501u);
}

TEST(PrefixCache, LastTokenOfAPrompt_AlwaysRuns) {
  SharingFixture f;
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(96), .max_tokens = 1}), 96u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(96), .max_tokens = 1}), 32u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(97), .max_tokens = 1}), 1u);
}

TEST(PrefixCache, GeneratedTokens_AreCachedToo) {
  SharingFixture f;
  const Request first{.prompt = counting_prompt(40), .max_tokens = 60};
  f.n_run(first);
  std::vector<int32_t> conversation = first.prompt;
  for (const int32_t token : tokens_alone(first, 60, f.executor.draw)) conversation.push_back(token);
  conversation.resize(120, 5);
  EXPECT_EQ(f.n_run({.prompt = conversation, .max_tokens = 3}), 120u - 96u);
}

TEST(PrefixCache, Salts_AreApart) {
  SharingFixture f;
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3, .cache_salt = "a"}), 100u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3}), 100u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3, .cache_salt = "b"}), 100u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3, .cache_salt = "a"}), 4u);
}

TEST(PrefixCache, NoReuse_LeavesAllPagesFree) {
  SharingFixture f({4, 64, 40}, {.vocab_size = 100, .context_tokens = 500, .kv_reuse = KvReuse::kNone});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(f.n_run({.prompt = counting_prompt(100), .max_tokens = 3}), 100u);
  EXPECT_EQ(f.engine.scheduler().pages().n_free(), 40);
}

TEST(PrefixCache, CachedTokens_ReachTheSlotAsHistory) {
  SharingFixture f;
  f.n_run({.prompt = counting_prompt(100), .max_tokens = 3});
  std::vector<SlotOp> ops;
  f.executor.on_enqueue = [&](const StepBatch& batch) {
    ops.insert(ops.end(), batch.slot_ops.begin(), batch.slot_ops.end());
  };
  f.n_run({.prompt = counting_prompt(110), .max_tokens = 3});
  ASSERT_EQ(ops.size(), 1u);
  EXPECT_EQ(ops[0].history, counting_prompt(96));
  EXPECT_EQ(ops[0].n_prompt_tokens, 110);
}

TEST(PrefixCache, PromptThatIsStillBeingRun_IsSharedAsFarAsItIs) {
  SharingFixture f;
  const Request first{.prompt = counting_prompt(200), .max_tokens = 3};
  const RequestId id = f.submit(first);
  f.engine.step();  // 64 tokens are in flight
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(70), .max_tokens = 3}), 200u - 64u + 6u);
  f.expect_tokens_alone(id, first);
}

TEST(PrefixCache, SamePromptInTheSameStep_IsKeptOnce) {
  SharingFixture f;
  const Request request{.prompt = counting_prompt(32), .max_tokens = 9};
  f.submit(request);
  EXPECT_EQ(f.n_run(request), 64u);
  EXPECT_EQ(f.engine.scheduler().pages().n_cached(), 1);
  EXPECT_EQ(f.engine.scheduler().pages().n_free(), 39);
}

TEST(PrefixCache, PoolThatIsShort_KeepsWhatWasUsedLast) {
  SharingFixture f({4, 64, 8}, {.vocab_size = 100, .context_tokens = 500});
  f.n_run({.prompt = counting_prompt(96, 1), .max_tokens = 1});
  f.n_run({.prompt = counting_prompt(96, 2), .max_tokens = 1});
  f.n_run({.prompt = counting_prompt(96, 1), .max_tokens = 1});  // used again
  f.n_run({.prompt = counting_prompt(120, 3), .max_tokens = 1});
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(96, 1), .max_tokens = 1}), 32u);
  EXPECT_EQ(f.n_run({.prompt = counting_prompt(96, 2), .max_tokens = 1}), 64u);
}

TEST(PrefixCache, RowsOfEveryPromptToken_NeedTheWholePrompt) {
  SharingFixture f;
  const Request plain{.prompt = counting_prompt(100), .max_tokens = 0};
  f.n_run(plain);
  Request scored = plain, mean = plain, last = plain;
  scored.prompt_logprobs = true;
  mean.pooling = Pooling::kMean;
  last.pooling = Pooling::kLast;
  EXPECT_EQ(f.n_run(scored), 100u);
  EXPECT_EQ(f.n_run(mean), 100u);
  EXPECT_EQ(f.n_run(last), 4u);
}

TEST(Embedding, IsTheLastHiddenStateOrTheirMean) {
  SharingFixture f;
  const std::vector<int32_t> prompt = counting_prompt(150);
  const RequestId last = f.submit({.prompt = prompt, .max_tokens = 0, .pooling = Pooling::kLast});
  const RequestId mean = f.submit({.prompt = prompt, .max_tokens = 0, .pooling = Pooling::kMean});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder[last].embedding, testing::fake_hidden(prompt));
  ASSERT_EQ(f.recorder[mean].embedding.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    double sum = 0;
    for (size_t n = 1; n <= prompt.size(); ++n) sum += testing::fake_hidden(std::span(prompt).first(n))[i];
    EXPECT_FLOAT_EQ(f.recorder[mean].embedding[i], static_cast<float>(sum / 150));
  }
  EXPECT_TRUE(f.recorder[last].tokens.empty());
}

TEST(Choices, ShareThePromptAndDrawApart) {
  SharingFixture f({8, 64, 40});
  Request request{.prompt = counting_prompt(100), .max_tokens = 20, .n_choices = 5};
  request.sampling.seed = 7;
  EXPECT_EQ(f.n_run(request), 100u + 4u * 4u);
  EXPECT_NE(f.recorder.of(1, 0).tokens, f.recorder.of(1, 1).tokens);
  EXPECT_EQ(f.recorder.of(1, 0).finish->cost.n_cached_tokens, 0);
  EXPECT_EQ(f.recorder.of(1, 4).finish->cost.n_cached_tokens, 96);
  f.expect_all_free();
}

TEST(Choices, HoldThePromptsPagesOnce) {
  SharingFixture f({8, 128, 40});
  f.submit({.prompt = counting_prompt(100), .max_tokens = 20, .n_choices = 8});
  for (int i = 0; i < 4; ++i) f.engine.step();
  EXPECT_EQ(f.engine.scheduler().running().size(), 8u);
  EXPECT_EQ(f.engine.scheduler().pages().n_held(), 3 + 8);
  f.engine.run_until_idle();
}

TEST(Choices, OfAPromptThatFillsNoPage_StartTogether) {
  SharingFixture f;
  f.submit({.prompt = counting_prompt(12), .max_tokens = 2, .n_choices = 4});
  f.engine.step();
  EXPECT_EQ(f.engine.scheduler().running().size(), 4u);
  f.engine.run_until_idle();
}

TEST(Choices, PromptIsScoredOnce) {
  SharingFixture f;
  const RequestId id =
      f.submit({.prompt = counting_prompt(80), .max_tokens = 2, .prompt_logprobs = true, .n_choices = 3});
  f.engine.run_until_idle();
  EXPECT_EQ(f.recorder.of(id, 0).prompt.size(), 79u);
  EXPECT_TRUE(f.recorder.of(id, 1).prompt.empty());
  EXPECT_TRUE(f.recorder.of(id, 2).prompt.empty());
}

TEST(Choices, Cancel_EndsThoseThatHaveNotEnded) {
  SharingFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(80), .n_choices = 3});
  for (int i = 0; i < 6; ++i) f.engine.step();
  EXPECT_TRUE(f.engine.cancel(id));
  EXPECT_FALSE(f.engine.cancel(id));
  for (int choice = 0; choice < 3; ++choice)
    EXPECT_EQ(f.recorder.of(id, choice).finish->reason, FinishReason::kCancelled) << choice;
  f.engine.run_until_idle();
  f.expect_all_free();
}

}  // namespace
}  // namespace spate
