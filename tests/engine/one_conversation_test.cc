// KvReuse::kOneConversation: a prompt takes over what earlier ones left, to the token.
#include <gtest/gtest.h>
#include <random>

#include "engine/engine_fixture.h"

namespace spate::testing {
namespace {

const EngineOptions kOneConversation{
    .vocab_size = EngineFixture::kVocab, .context_tokens = 500, .kv_reuse = KvReuse::kOneConversation};

struct ConversationFixture : EngineFixture {
  explicit ConversationFixture(ExecutorLimits limits = {.max_seqs = 4, .max_step_tokens = 64, .n_pages = 40})
      : EngineFixture(limits, kOneConversation) {}

  struct Turn {
    std::vector<int32_t> tokens;  // drawn
    int64_t n_prompt_run;         // prompt tokens that went through the device
  };
  // Runs the request alone, and checks that it got the tokens that it would get on an idle device.
  Turn run(const Request& request) {
    const uint64_t before = engine.scheduler().counts().n_prefill_tokens;
    int64_t n_run = 0;
    executor.on_enqueue = [&](const StepBatch& batch) {
      for (int t = 0; t < batch.n_tokens(); ++t)
        n_run +=
            batch.from_row[t] < 0 && batch.kv_len[0] - batch.n_tokens() + t < static_cast<int>(request.prompt.size());
    };
    const RequestId id = submit(request);
    engine.run_until_idle();
    executor.on_enqueue = nullptr;
    EXPECT_EQ(recorder[id].tokens, tokens_alone(request, request.max_tokens.value(), executor.draw));
    EXPECT_EQ(engine.scheduler().counts().n_prefill_tokens - before, static_cast<uint64_t>(n_run));
    return {recorder[id].tokens, n_run};
  }
};

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(OneConversation, ConversationThatGoesOn_RunsOnlyWhatIsNew) {
  ConversationFixture f;
  std::vector<int32_t> context = counting_prompt(50);
  EXPECT_EQ(f.run({.prompt = context, .max_tokens = 10}).n_prompt_run, 50);
  for (int turn = 0; turn < 5; ++turn) {
    const Request again{.prompt = context, .max_tokens = 10};
    context = joined(context, tokens_alone(again, 10, f.executor.draw));
    context = joined(context, counting_prompt(20, 7 * turn));
    // The last token drawn never ran, so it is among the new ones.
    EXPECT_EQ(f.run({.prompt = context, .max_tokens = 10}).n_prompt_run, 21) << "turn " << turn;
  }
}

TEST(OneConversation, AnswerThatAStopTokenEnded_IsKeptWithThatToken) {
  ConversationFixture f;
  const Request first{.prompt = counting_prompt(40), .max_tokens = 30};
  const std::vector<int32_t> drawn = tokens_alone(first, 30, f.executor.draw);
  Request stopped = first;
  stopped.stop_tokens = {drawn[12]};
  const auto turn = f.run(stopped);
  EXPECT_LE(turn.tokens.size(), 13u);
  // The step after the stop was in flight already: it ran the stop token.
  EXPECT_EQ(f.run({.prompt = joined(joined(first.prompt, turn.tokens), {1, 2, 3}), .max_tokens = 4}).n_prompt_run, 3);
}

TEST(OneConversation, PromptThatDiffers_RunsFromThere) {
  for (const int n_common : {0, 1, 31, 32, 33, 49}) {
    ConversationFixture f;
    std::vector<int32_t> prompt = counting_prompt(50);
    f.run({.prompt = prompt, .max_tokens = 5});
    for (size_t i = static_cast<size_t>(n_common); i < prompt.size(); ++i) prompt[i] = 99;
    EXPECT_EQ(f.run({.prompt = prompt, .max_tokens = 5}).n_prompt_run, 50 - n_common);
  }
}

TEST(OneConversation, SamePromptAgain_RunsItsLastToken) {
  ConversationFixture f;
  f.run({.prompt = counting_prompt(64), .max_tokens = 5});
  EXPECT_EQ(f.run({.prompt = counting_prompt(64), .max_tokens = 5}).n_prompt_run, 1);
  EXPECT_EQ(f.run({.prompt = counting_prompt(20), .max_tokens = 5}).n_prompt_run, 1);
}

TEST(OneConversation, CancelledRequest_KeepsWhatRan) {
  ConversationFixture f;
  const RequestId id = f.submit({.prompt = counting_prompt(200), .max_tokens = 5});
  f.engine.step();  // 64 tokens
  f.engine.cancel(id);
  f.engine.run_until_idle();
  EXPECT_EQ(f.run({.prompt = counting_prompt(200), .max_tokens = 5}).n_prompt_run, 200 - 64);
}

TEST(OneConversation, PromptLogprobs_NeedTheWholePrompt) {
  ConversationFixture f;
  f.run({.prompt = counting_prompt(50), .max_tokens = 5});
  EXPECT_EQ(f.run({.prompt = counting_prompt(50), .max_tokens = 5, .prompt_logprobs = true}).n_prompt_run, 50);
}

TEST(OneConversation, PoolThatIsShort_GivesItUp) {
  ConversationFixture f({.max_seqs = 4, .max_step_tokens = 64, .n_pages = 4});
  f.run({.prompt = counting_prompt(60), .max_tokens = 5});
  EXPECT_EQ(f.engine.scheduler().pages().n_free(), 2);
  EXPECT_EQ(f.run({.prompt = counting_prompt(100, 5), .max_tokens = 20}).n_prompt_run, 100);
  // As long as the whole pool, and all but the last page taken over.
  EXPECT_EQ(f.run({.prompt = counting_prompt(100, 5), .max_tokens = 28}).n_prompt_run, 1);
}

TEST(OneConversation, PromptThatPartsInTheMiddleOfAPage_DropsWhatFollowed) {
  ConversationFixture f;
  std::vector<int32_t> prompt = counting_prompt(200);
  f.run({.prompt = prompt, .max_tokens = 5});
  EXPECT_EQ(f.engine.scheduler().pages().n_cached(), 7);
  std::fill(prompt.begin() + 40, prompt.end(), 99);
  prompt.resize(50);
  EXPECT_EQ(f.run({.prompt = prompt, .max_tokens = 5}).n_prompt_run, 10);
  EXPECT_EQ(f.engine.scheduler().pages().n_cached(), 2);
  EXPECT_EQ(f.engine.scheduler().pages().n_free(), 38);
}

TEST(OneConversation, AmongManyRequests_NobodyGetsWrongTokens) {
  ConversationFixture f({.max_seqs = 3, .max_step_tokens = 48, .n_pages = 12});
  std::minstd_rand random(5);
  std::vector<std::pair<RequestId, Request>> requests;
  int n_cancelled = 0;
  for (int i = 0; i < 400; ++i) {
    // Prompts that share beginnings with one another, and end differently.
    Request request{.prompt = counting_prompt(1 + static_cast<int>(random() % 100), 1 + static_cast<int>(random() % 2)),
                    .max_tokens = static_cast<int>(random() % 40)};
    if (random() % 3 == 0) request.prompt.back() = static_cast<int32_t>(random() % 90);
    requests.emplace_back(f.submit(request), request);
    for (uint32_t step = random() % 6; step > 0; --step) f.engine.step();
    if (random() % 8 == 0) n_cancelled += f.engine.cancel(requests[random() % requests.size()].first);
  }
  f.engine.run_until_idle();
  int64_t n_prompt = 0;
  for (const auto& [id, request] : requests) {
    n_prompt += static_cast<int64_t>(request.prompt.size());
    if (f.recorder.reason(id) == FinishReason::kCancelled) continue;
    EXPECT_EQ(f.recorder[id].tokens, tokens_alone(request, *request.max_tokens, f.executor.draw));
  }
  EXPECT_GT(n_cancelled, 0);
  EXPECT_LT(static_cast<int64_t>(f.engine.scheduler().counts().n_prefill_tokens), n_prompt * 9 / 10)
      << "nothing was ever taken over";
  EXPECT_EQ(f.engine.scheduler().slots().n_free(), 3);
}

}  // namespace
}  // namespace spate::testing
