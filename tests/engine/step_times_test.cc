// What steps are predicted to take, and that the engine keeps to it on a device whose steps take a known time.
#include "engine/step_times.h"

#include <algorithm>
#include <climits>
#include <gtest/gtest.h>
#include <vector>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;

void record_decodes(StepTimes& times, int n_decodes, double seconds, int n_steps = StepTimes::kFewestSamples) {
  for (int i = 0; i < n_steps; ++i) times.record(n_decodes, 0, seconds);
}

// Runs steps as they are planned on a device of which `seconds` is known. The chunk that comes of it.
template <typename Seconds>
int settle(StepTimes& times, int n_decodes, const Seconds& seconds, int n_wanted = INT_MAX) {
  int chunk = 0;
  for (int i = 0; i < 100 || chunk == 0; ++i) {
    chunk = times.n_prompt_tokens_beside(n_decodes, n_wanted);
    times.record(n_decodes, chunk, seconds(n_decodes + chunk));
  }
  return chunk;
}

TEST(StepTimes, NothingMeasured_AsksForStepsWithoutPrompts) {
  StepTimes times(2);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 0);
  record_decodes(times, 4, 0.010, 2);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 0);
  record_decodes(times, 4, 0.010, 1);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), StepTimes::kFirstChunk);
  EXPECT_EQ(times.n_prompt_tokens_beside(7), StepTimes::kFirstChunk);  // of the same power of two
  EXPECT_EQ(times.n_prompt_tokens_beside(8), 0);
}

TEST(StepTimes, NoLimit_NeverHoldsPromptsBack) {
  const StepTimes times(0);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), INT_MAX);
}

TEST(StepTimes, Chunk_FillsWhatTheLimitLeaves) {
  const auto seconds = [](int n_tokens) { return 0.0096 + 1e-4 * n_tokens; };
  StepTimes times(2);
  EXPECT_LE(settle(times, 4, seconds), 100);
  EXPECT_GE(settle(times, 4, seconds), 90);
  StepTimes patient(4);
  EXPECT_LE(settle(patient, 4, seconds), 300);
  EXPECT_GE(settle(patient, 4, seconds), 270);
}

// 128 tokens take as long as one, and 129 twice that.
TEST(StepTimes, Chunk_EndsWhereTheNextTileBegins) {
  const auto seconds = [](int n_tokens) { return n_tokens <= 32 ? 0.0025 : 0.001 + 0.004 * ((n_tokens + 127) / 128); };
  for (const int n_decodes : {1, 15, 31}) {
    StepTimes times(3);
    EXPECT_EQ(settle(times, n_decodes, seconds), 128 - n_decodes);
    StepTimes patient(4);
    EXPECT_EQ(settle(patient, n_decodes, seconds), 256 - n_decodes);
  }
}

TEST(StepTimes, RestOfAPrompt_BeginsNoTileAlone) {
  const auto seconds = [](int n_tokens) { return n_tokens <= 32 ? 0.0025 : 0.001 + 0.004 * ((n_tokens + 127) / 128); };
  StepTimes times(4);
  EXPECT_EQ(settle(times, 15, seconds), 241);
  EXPECT_EQ(settle(times, 15, seconds, 235), 235);  // soonest done with two tiles
  EXPECT_EQ(settle(times, 15, seconds, 125), 113);
  EXPECT_EQ(settle(times, 15, seconds, 12), 12);
}

TEST(StepTimes, OutliersAmongDecodes_DoNotMoveTheMedian) {
  StepTimes times(2);
  record_decodes(times, 1, 0.010, 5);
  record_decodes(times, 1, 3.0, 4);
  EXPECT_DOUBLE_EQ(times.decode_seconds(1), 0.010);
  record_decodes(times, 1, 3.0, 1);
  EXPECT_DOUBLE_EQ(times.decode_seconds(1), 3.0);
}

TEST(StepTimes, Step_GrowsAtMostTwofoldBeyondWhatWasTimed) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  times.record(4, 68, 0.010);  // as good as free: says nothing of longer ones
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 2 * 72 - 4);
}

TEST(StepTimes, PromptsThatCostMoreThanTheLimit_StillGetOn) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  for (int i = 0; i < 20; ++i) times.record(4, 64, 1.0);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), StepTimes::kLeastChunk);
}

TEST(StepTimes, OldMedian_IsMeasuredAgain) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  for (int i = 0; i < StepTimes::kFreshSteps; ++i) {
    EXPECT_GT(times.n_prompt_tokens_beside(4), 0) << i;
    times.record(4, 64, 0.015);
  }
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 0);
  record_decodes(times, 4, 0.010, 1);
  EXPECT_GT(times.n_prompt_tokens_beside(4), 0);
}

TEST(StepTimes, PromptsAlone_TeachUntilOneRanBesideDecodes) {
  StepTimes times(2);
  times.record(0, 1024, 0.1);
  record_decodes(times, 4, 0.010);
  EXPECT_NEAR(times.n_prompt_tokens_beside(4), 110, 6);
  const auto seconds = [](int n_tokens) { return 0.010 + (n_tokens - 4) * 2e-4; };
  EXPECT_NEAR(settle(times, 4, seconds), 50, 3);
  for (int n = 8; n <= 112; ++n) times.record(4, n - 4, seconds(n));
  for (int n = 8; n <= 112; ++n) times.record(0, n, 0.001);
  record_decodes(times, 4, 0.010, 1);
  EXPECT_NEAR(times.n_prompt_tokens_beside(4), 50, 3);
}

// As where matrices are decoded once for long chunks, and for each few tokens of short ones.
TEST(StepTimes, LongerStepThatTakesLess_IsTaken) {
  const auto seconds = [](int n) { return n < 256 ? 0.0045 + (n - 32) * 1e-4 : 0.0045 + (n - 32) * 3e-5; };
  StepTimes times(3);
  EXPECT_NEAR(settle(times, 32, seconds), 90, 10);  // of what lies beyond nothing is known
  times.record(0, 500, seconds(500));
  const int chunk = settle(times, 32, seconds);
  EXPECT_GE(chunk, 256);
  EXPECT_LE(chunk, 300);
}

TEST(StepTimes, LengthThatTookLongOnce_IsTriedAgain) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  times.record(4, 68, 0.010 + 68 * 1e-4);
  times.record(4, 100, 1.0);
  EXPECT_LE(times.n_prompt_tokens_beside(4), 68);
  int n_steps = 0;
  while (times.n_prompt_tokens_beside(4) <= 68 && n_steps < 10000) {
    record_decodes(times, 4, 0.010);
    times.record(4, 68, 0.010 + 68 * 1e-4);
    ++n_steps;
  }
  EXPECT_GT(n_steps, 100);
  EXPECT_LT(n_steps, 10000);
}

// Of three times the middle one counts, of two the lower.
TEST(StepTimes, HiccupOfALengthInUse_ChangesNothing) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  for (const double seconds : {0.018, 0.5, 0.018, 0.018, 0.5, 0.018, 0.018}) {
    times.record(4, 92, seconds);
    EXPECT_GE(times.n_prompt_tokens_beside(4), 92) << seconds;
  }
}

// A try says how long it takes, and is remembered.
TEST(StepTimes, LengthThatIsTooLong_IsTriedSeldom) {
  StepTimes times(3);
  const auto seconds = [](int n) { return 0.004 + (n > 256 ? 0.012 : (n - 32) * 3.2e-5); };
  record_decodes(times, 32, 0.004);
  times.record(32, 500, seconds(532));
  int n_long = 0;
  constexpr int kSteps = 3000;
  for (int i = 0; i < kSteps; ++i) {
    if (i % 50 == 0) record_decodes(times, 32, 0.004);
    const int n = times.n_prompt_tokens_beside(32);
    n_long += seconds(32 + n) > 3 * 0.004;
    times.record(32, n, seconds(32 + n));
  }
  EXPECT_GT(n_long, 0);
  EXPECT_LT(n_long, kSteps / 100);
}

// Seconds that a step takes on a device of the usual kind: the first tokens ride along with the weights that are read
// anyway, more are paid for each.
double device_seconds(int n_tokens) {
  return 0.002 + 2e-5 * std::min(n_tokens, 48) + 1e-4 * std::max(n_tokens - 48, 0);
}

struct TimedStep {
  int n_decodes, n_tokens;
  double seconds;
};

struct TimedFixture : EngineFixture {
  explicit TimedFixture(double max_decode_stretch)
      : EngineFixture({.max_seqs = 20, .max_step_tokens = 512, .n_pages = 400},
                      {.vocab_size = kVocab, .context_tokens = 2000, .max_decode_stretch = max_decode_stretch}) {
    executor.on_wait = [this](const StepBatch& batch) {
      int n_decodes = 0;
      for (int s = 0; s < batch.n_seqs(); ++s) n_decodes += batch.q_start[s + 1] - batch.q_start[s] == 1;
      const double seconds = device_seconds(batch.n_tokens());
      clock.advance(seconds);
      steps.push_back({n_decodes, batch.n_tokens(), seconds});
    };
  }
  // The engine, which goes after this, waits for its steps.
  ~TimedFixture() { executor.on_wait = nullptr; }
  // 16 who read, while long prompts come one after the other.
  void run_prompts_beside_readers() {
    for (int i = 0; i < 16; ++i) submit({.prompt = counting_prompt(8, i), .max_tokens = 1500});
    for (int i = 0; i < 40; ++i) engine.step();
    for (int i = 0; i < 10; ++i) {
      const RequestId id = submit({.prompt = counting_prompt(1000 + i, i), .max_tokens = 1});
      while (!recorder.finished(id)) engine.step();
    }
  }
  std::vector<TimedStep> steps;
};

TEST(StepTimesInUse, WhileOthersRead_StepsStayWithinTheLimit) {
  TimedFixture f(2);
  f.run_prompts_beside_readers();
  const double decode = device_seconds(16);
  int n_mixed = 0, n_over = 0, n_tokens = 0;
  double sum = 0, fastest = 0;
  for (const TimedStep& step : f.steps) {
    if (step.n_decodes < 16 || step.n_tokens == step.n_decodes) continue;
    ++n_mixed;
    n_tokens += step.n_tokens - step.n_decodes;
    sum += step.seconds;
    n_over += step.seconds > 2.1 * decode;
    EXPECT_LT(step.seconds, 5 * decode);  // of a length that is timed for the first time
  }
  for (int n = 17; device_seconds(n) <= 2 * decode; ++n) fastest = std::max(fastest, (n - 16) / device_seconds(n));
  EXPECT_GT(n_mixed, 100);
  EXPECT_LT(n_over, n_mixed / 20) << "of " << n_mixed;
  EXPECT_GT(n_tokens / sum, 0.95 * fastest) << "prompts could have got on faster";
}

TEST(StepTimesInUse, NobodyReads_PromptsGetTheWholeStep) {
  TimedFixture f(2);
  f.submit({.prompt = counting_prompt(1500), .max_tokens = 1});
  f.engine.run_until_idle();
  ASSERT_EQ(f.steps.size(), 3u);
  EXPECT_EQ(f.steps[0].n_tokens, 512);
  EXPECT_EQ(f.steps[1].n_tokens, 512);
}

TEST(StepTimesInUse, NoLimit_PromptsGetAllThatDecodesLeave) {
  TimedFixture f(0);
  f.run_prompts_beside_readers();
  EXPECT_TRUE(std::any_of(f.steps.begin(), f.steps.end(),
                          [](const TimedStep& step) { return step.n_decodes == 16 && step.n_tokens == 512; }));
}

}  // namespace
}  // namespace spate
