// What steps are predicted to take, and that the engine keeps to it on a device whose steps take a known time.
#include "engine/step_times.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::counting_prompt;
using testing::EngineFixture;

void record_decodes(StepTimes& times, int n_decodes, double seconds, int n_steps = StepTimes::kFewestSamples) {
  for (int i = 0; i < n_steps; ++i) times.record(n_decodes, 0, seconds);
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
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  for (int i = 0; i < 50; ++i) times.record(4, 64, 0.010 + 64 * 1e-4);
  EXPECT_NEAR(times.prompt_cost(64), 1e-4, 1e-9);
  EXPECT_NEAR(times.n_prompt_tokens_beside(4), 100, 1);
  StepTimes patient(4);
  record_decodes(patient, 4, 0.010);
  for (int i = 0; i < 50; ++i) patient.record(4, 200, 0.010 + 200 * 1e-4);
  EXPECT_NEAR(patient.n_prompt_tokens_beside(4), 300, 1);
}

TEST(StepTimes, OutliersAmongDecodes_DoNotMoveTheMedian) {
  StepTimes times(2);
  record_decodes(times, 1, 0.010, 5);
  record_decodes(times, 1, 3.0, 4);
  EXPECT_DOUBLE_EQ(times.decode_seconds(1), 0.010);
  record_decodes(times, 1, 3.0, 1);
  EXPECT_DOUBLE_EQ(times.decode_seconds(1), 3.0);
}

TEST(StepTimes, Chunk_GrowsAtMostTwofoldBeyondWhatWasTimed) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  times.record(4, 64, 0.010);  // as good as free: says nothing of longer ones
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 128);
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
  times.record(0, 1000, 0.1);
  record_decodes(times, 4, 0.010);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 100);
  times.record(4, 100, 0.010 + 100 * 2e-4);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 50);
  times.record(0, 1000, 10);
  EXPECT_EQ(times.n_prompt_tokens_beside(4), 50);
}

// As where matrices are decoded once for long chunks, and for each few tokens of short ones.
TEST(StepTimes, LongerChunkThatCostsLess_IsTaken) {
  StepTimes times(3);
  record_decodes(times, 32, 0.0045);
  for (int i = 0; i < 10; ++i) times.record(32, 48, 0.0045 + 48 * 1e-4);
  EXPECT_NEAR(times.n_prompt_tokens_beside(32), 90, 2);
  times.record(0, 500, 500 * 3e-5);
  EXPECT_NEAR(times.n_prompt_tokens_beside(32), 300, 2);
  for (int i = 0; i < 10; ++i) times.record(32, 300, 0.0045 + 300 * 3.5e-5);
  EXPECT_NEAR(times.n_prompt_tokens_beside(32), 257, 2);
  for (int i = 0; i < 10; ++i) times.record(32, 300, 0.0045 + 300 * 6e-5);
  EXPECT_NEAR(times.n_prompt_tokens_beside(32), 160, 10);  // was never timed: thought to cost what 300 do
  times.record(32, 160, 0.0045 + 160 * 1e-4);
  EXPECT_NEAR(times.n_prompt_tokens_beside(32), 90, 3);
}

TEST(StepTimes, LengthThatTookLongOnce_IsTriedAgain) {
  StepTimes times(2);
  record_decodes(times, 4, 0.010);
  times.record(4, 64, 0.010 + 64 * 1e-4);
  times.record(4, 100, 1.0);
  EXPECT_LE(times.n_prompt_tokens_beside(4), 64);
  int n_steps = 0;
  while (times.n_prompt_tokens_beside(4) <= 64 && n_steps < 10000) {
    record_decodes(times, 4, 0.010);
    times.record(4, 64, 0.010 + 64 * 1e-4);
    ++n_steps;
  }
  EXPECT_GT(n_steps, 100);
  EXPECT_LT(n_steps, 10000);
}

// A try says how long it takes, once; it is not made again and again until an average has found back.
TEST(StepTimes, LengthThatIsTooLong_IsTriedSeldom) {
  StepTimes times(3);
  const auto chunk_seconds = [](int n) { return n * (n > 256 ? 4.8e-5 : 3.2e-5); };
  record_decodes(times, 32, 0.004);
  for (const int n : {500, 250}) times.record(32, n, 0.004 + chunk_seconds(n));
  int n_long = 0;
  constexpr int kSteps = 3000;
  for (int i = 0; i < kSteps; ++i) {
    if (i % 50 == 0) record_decodes(times, 32, 0.004);
    const int n = times.n_prompt_tokens_beside(32);
    n_long += n > 256;
    times.record(32, n, 0.004 + chunk_seconds(n));
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
  int n_mixed = 0, n_over = 0;
  double sum = 0;
  for (const TimedStep& step : f.steps) {
    if (step.n_decodes < 16 || step.n_tokens == step.n_decodes) continue;
    ++n_mixed;
    sum += step.seconds;
    n_over += step.seconds > 2.1 * decode;
    EXPECT_LT(step.seconds, 5 * decode);  // of a length that is timed for the first time
  }
  EXPECT_GT(n_mixed, 100);
  EXPECT_LT(n_over, n_mixed / 20) << "of " << n_mixed;
  EXPECT_GT(sum / n_mixed, 1.6 * decode) << "prompts could have got on faster";
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

// Seconds of a step of an 8B model on an H200, by tokens: measured, straight lines between.
double gpu_seconds(int n_tokens) {
  constexpr std::pair<int, double> kMeasured[] = {{1, 1.8e-3},  {8, 2.6e-3},   {16, 3.4e-3},  {32, 4.2e-3},
                                                  {64, 5.7e-3}, {128, 8.5e-3}, {256, 12e-3},  {300, 15e-3},
                                                  {512, 19e-3}, {1024, 33e-3}, {2048, 61e-3}, {4096, 122e-3}};
  const auto* above = std::find_if(std::begin(kMeasured), std::end(kMeasured),
                                   [&](const auto& point) { return point.first >= n_tokens; });
  if (above == std::begin(kMeasured)) return above->second;
  const auto& [n, seconds] = *(above - 1);
  return seconds + (above->second - seconds) * (n_tokens - n) / (above->first - n);
}

// Clients who send their next request as soon as the last one is answered: 512 tokens in, 128 out.
struct ClosedLoop : EngineFixture {
  static constexpr int kPrompt = 512, kAnswer = 128, kRequests = 12;

  explicit ClosedLoop(int n_clients)
      : EngineFixture({.max_seqs = 64, .max_step_tokens = 2048, .n_pages = 64 * 24},
                      {.vocab_size = kVocab, .context_tokens = 2000}) {
    executor.on_wait = [this](const StepBatch& batch) { clock.advance(gpu_seconds(batch.n_tokens())); };
    recorder.on_delta = [this](RequestId id, const OutputDelta& delta) {
      if (delta.tokens.empty()) return;
      const EngineTime now = clock.now()();
      const auto [before, is_first] = last_token.emplace(id, now);
      if (!is_first) gaps.push_back(std::chrono::duration<double>(now - before->second).count());
      before->second = now;
    };
    std::vector<RequestId> running(n_clients);
    std::vector<int> n_left(n_clients, kRequests - 1);
    int n_prompts = 0;
    const auto send = [&](RequestId& of) {
      of = submit({.prompt = counting_prompt(kPrompt, n_prompts),
                   .max_tokens = kAnswer,
                   .cache_salt = std::to_string(n_prompts)});
      ++n_prompts;
    };
    for (RequestId& id : running) send(id);
    for (bool goes_on = true; goes_on;) {
      goes_on = engine.step();
      for (int i = 0; i < n_clients; ++i) {
        if (n_left[i] == 0 || !recorder.finished(running[i])) continue;
        --n_left[i];
        send(running[i]);
        goes_on = true;
      }
    }
    last = clock.now()();
    std::sort(gaps.begin(), gaps.end());
  }
  ~ClosedLoop() { executor.on_wait = nullptr; }
  double gap(double quantile) const { return gaps[static_cast<size_t>(quantile * static_cast<double>(gaps.size()))]; }

  double tokens_per_second() const {
    const std::chrono::duration<double> passed = last - first;
    return static_cast<double>(gaps.size()) / passed.count();
  }

  EngineTime first = clock.now()(), last;
  std::map<RequestId, EngineTime> last_token;
  std::vector<double> gaps;
};

TEST(StepTimesInUse, ClientsInAClosedLoop_SeldomWaitLongForAToken) {
  for (const int n_clients : {1, 8, 16, 32, 64}) {
    const ClosedLoop loop(n_clients);
    ASSERT_EQ(loop.gaps.size(), size_t(n_clients) * ClosedLoop::kRequests * (ClosedLoop::kAnswer - 1));
    std::printf("%d clients: %.0f tokens/s, gaps of %.1f ms, %.1f at the 99th percentile\n", n_clients,
                loop.tokens_per_second(), 1e3 * loop.gap(0.5), 1e3 * loop.gap(0.99));
    EXPECT_LT(loop.gap(0.99), 4 * loop.gap(0.5)) << n_clients << " clients";
  }
}

}  // namespace
}  // namespace spate
