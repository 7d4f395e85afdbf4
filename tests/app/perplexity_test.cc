// The perplexity driver against a fake executor, and spate perplexity as a program.
#include "app/perplexity.h"

#include <cmath>
#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "app/subprocess.h"
#include "base/file.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using app::measure_perplexity;
using app::perplexity_limits;
using app::PerplexityEstimate;
using app::PerplexityOptions;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kVocabSize = 100;

// Log-probability that the fake gives a target, from what a correct driver must have shown it: the position in the
// chunk, the chunk's tokens so far and the target.
float fake_logprob(int position, int64_t sum_of_context, int target) {
  return -0.01f * static_cast<float>((position * 7 + sum_of_context * 3 + target) % 101 + 1);
}

// Keeps each page's tokens as a KV cache would, so that a wrong page, slot or length shows.
class FakeExecutor : public Executor {
 public:
  explicit FakeExecutor(const ExecutorLimits& limits) : limits_(limits) {}

  const ExecutorLimits& limits() const override { return limits_; }
  std::string description() const override { return "fake"; }

  StepId enqueue(const StepBatch& batch) override {
    check_batch(batch, limits_, kVocabSize);
    EXPECT_LT(outputs_.size(), static_cast<size_t>(kMaxStepsInFlight));
    most_in_flight_ = std::max(most_in_flight_, static_cast<int>(outputs_.size()) + 1);
    largest_step_ = std::max(largest_step_, batch.n_tokens());
    StepOutput output;
    size_t row = 0;
    for (int s = 0; s < batch.n_seqs(); ++s) {
      for (int i = batch.q_start[s]; i < batch.q_start[s + 1]; ++i) {
        const int position = batch.kv_len[s] - (batch.q_start[s + 1] - i);
        const PageTable& table = batch.groups[0];
        cache_[{table.pages[table.start[s] + position / kPageTokens], position % kPageTokens}] = batch.tokens[i];
        int64_t sum = 0;
        for (int p = 0; p <= position; ++p)
          sum += cache_.at({table.pages[table.start[s] + p / kPageTokens], p % kPageTokens});
        for (; row < batch.rows.size() && batch.rows[row].token_index == i; ++row) {
          EXPECT_EQ(batch.rows[row].kind, RowKind::kScore);
          output.rows.push_back(
              {.logprob = fake_logprob(position, sum, batch.rows[row].target), .top = {}, .hidden = {}});
        }
      }
    }
    EXPECT_EQ(row, batch.rows.size());
    outputs_.push_back(std::move(output));
    return ++last_id_;
  }

  Result<StepOutput> wait(StepId step) override {
    EXPECT_EQ(step, last_id_ - outputs_.size() + 1) << "steps are waited for in order";
    if (step >= fail_from_) {
      outputs_.pop_front();
      return Error::backend("the fake device fell over");
    }
    StepOutput output = std::move(outputs_.front());
    outputs_.pop_front();
    return output;
  }

  int n_unfinished() const { return static_cast<int>(outputs_.size()); }

  StepId fail_from_ = ~StepId{0};
  int most_in_flight_ = 0;
  int largest_step_ = 0;

 private:
  ExecutorLimits limits_;
  std::map<std::pair<int, int>, int> cache_;  // (page, place in it) to token
  std::deque<StepOutput> outputs_;
  StepId last_id_ = 0;
};

std::vector<int32_t> some_tokens(int n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) tokens[static_cast<size_t>(i)] = (i * 37 + i / 11) % kVocabSize;
  return tokens;
}

// The definition, straight from README: mean negative log-likelihood of tokens context/2 + 1 .. context - 1.
double expected_mean_nll(std::span<const int32_t> tokens, int context, int64_t n_chunks) {
  double sum = 0;
  int64_t n = 0;
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const auto in_chunk = tokens.subspan(static_cast<size_t>(chunk) * context, static_cast<size_t>(context));
    for (int target = context / 2 + 1; target < context; ++target, ++n)
      sum -= fake_logprob(target - 1, std::accumulate(in_chunk.begin(), in_chunk.begin() + target, int64_t{0}),
                          in_chunk[static_cast<size_t>(target)]);
  }
  return sum / static_cast<double>(n);
}

TEST(Perplexity, AnyStepSize_GivesTheDefinition) {
  const auto tokens = some_tokens(64 * 5 + 17);
  for (int step_tokens : {1, 3, 4, 16, 31, 33, 63, 64}) {
    const PerplexityOptions options{.context = 64, .step_tokens = step_tokens};
    FakeExecutor executor(perplexity_limits(options));
    const Result<PerplexityEstimate> result = measure_perplexity(executor, tokens, options, nullptr);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->n_chunks, 5);
    EXPECT_EQ(result->n_tokens_scored, 5 * 31);
    EXPECT_NEAR(result->mean_nll, expected_mean_nll(tokens, 64, 5), 1e-9) << "step_tokens " << step_tokens;
    EXPECT_DOUBLE_EQ(result->perplexity(), std::exp(result->mean_nll));
    EXPECT_GT(result->stderr_perplexity(), 0);
    EXPECT_EQ(executor.most_in_flight_, kMaxStepsInFlight);
    EXPECT_EQ(executor.largest_step_, step_tokens);
    EXPECT_EQ(executor.n_unfinished(), 0);
  }
}

TEST(Perplexity, Context512_Scores255TokensAChunk) {
  const auto tokens = some_tokens(1024);
  const PerplexityOptions options;
  FakeExecutor executor(perplexity_limits(options));
  const auto result = measure_perplexity(executor, tokens, options, nullptr);
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->n_tokens_scored, 2 * 255);
}

TEST(Perplexity, OddAndSmallestContext_ScoreTheSecondHalf) {
  const auto tokens = some_tokens(50);
  for (int context : {4, 5, 7, 33}) {
    const PerplexityOptions options{.context = context, .step_tokens = 2};
    FakeExecutor executor(perplexity_limits(options));
    const auto result = measure_perplexity(executor, tokens, options, nullptr);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->n_tokens_scored, 50 / context * (context - 1 - context / 2));
    EXPECT_NEAR(result->mean_nll, expected_mean_nll(tokens, context, 50 / context), 1e-9) << context;
  }
}

TEST(Perplexity, MaxChunksAndProgress_CountChunks) {
  const auto tokens = some_tokens(16 * 10);
  const PerplexityOptions options{.context = 16, .step_tokens = 16, .max_chunks = 4};
  FakeExecutor executor(perplexity_limits(options));
  std::vector<int64_t> seen;
  const auto result = measure_perplexity(executor, tokens, options, [&](const PerplexityEstimate& so_far) {
    EXPECT_EQ(so_far.n_chunks_total, 4);
    seen.push_back(so_far.n_chunks);
    return true;
  });
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->n_chunks, 4);
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3, 4}));
}

TEST(Perplexity, StoppedByProgress_LeavesNothingInFlight) {
  const auto tokens = some_tokens(16 * 10);
  const PerplexityOptions options{.context = 16, .step_tokens = 4};
  FakeExecutor executor(perplexity_limits(options));
  const auto result = measure_perplexity(executor, tokens, options,
                                         [](const PerplexityEstimate& so_far) { return so_far.n_chunks < 3; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kInterrupted);
  EXPECT_THAT(result.error().message, HasSubstr("3 of 10"));
  EXPECT_EQ(executor.n_unfinished(), 0);
}

TEST(Perplexity, DeviceThatFails_EndsWithItsError) {
  const auto tokens = some_tokens(16 * 10);
  const PerplexityOptions options{.context = 16, .step_tokens = 4};
  FakeExecutor executor(perplexity_limits(options));
  executor.fail_from_ = 7;
  const auto result = measure_perplexity(executor, tokens, options, nullptr);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_THAT(result.error().message, HasSubstr("fell over"));
}

TEST(Perplexity, TextShorterThanAChunk_IsAUsageError) {
  const auto tokens = some_tokens(511);
  const PerplexityOptions options;
  FakeExecutor executor(perplexity_limits(options));
  const auto result = measure_perplexity(executor, tokens, options, nullptr);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUsage);
  EXPECT_THAT(result.error().message, HasSubstr("511 tokens"));
}

// Prose that the demo model can predict better than chance: the golden prompts and continuations.
std::string short_text() {
  const json golden = json::parse(read_file(fixture_path("demo/golden.json")).value());
  std::string text;
  for (const json& prompt : golden.at("prompts"))
    text += prompt.at("prompt").get<std::string>() + prompt.at("greedy_text").get<std::string>() + "\n";
  return text;
}

TEST(PerplexityCommand, StepSizes_AgreeOnAShortText) {
  double whole = 0;
  for (const char* step_tokens : {"64", "1", "7"}) {
    const Finished finished = run_spate(
        {"perplexity", "-", "--context", "64", "--chunks", "3", "--step-tokens", step_tokens, "--json"}, short_text());
    ASSERT_EQ(finished.exit_code, 0) << finished.err;
    const json result = json::parse(finished.out);
    EXPECT_EQ(result.at("chunks"), 3);
    EXPECT_EQ(result.at("tokens_scored"), 3 * 31);
    EXPECT_GT(result.at("timings").at("tokens_per_second").get<double>(), 0);
    const double perplexity = result.at("perplexity");
    EXPECT_GT(perplexity, 1.0);
    EXPECT_LT(perplexity, 1000.0);  // of 16,384 for a guess
    if (whole == 0) whole = perplexity;
    EXPECT_NEAR(perplexity / whole, 1, 0.002) << "step_tokens " << step_tokens;
  }
}

TEST(PerplexityCommand, BadUses_AreOneLineWithExitCode2) {
  const std::string text = fixture_path("demo/golden.json");
  for (const auto& [arguments, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "no text named"},
           {{bundled_model_path()}, "no text named"},
           {{text, "--context", "3"}, "'3'"},
           {{text, "--context", "64", "--step-tokens", "65"}, "more than the context"},
           {{bundled_model_path(), text, "--context", "100000"}, "fewer than one chunk"}}) {
    std::vector<std::string> all{"perplexity"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Finished finished = run_spate(all);
    EXPECT_EQ(finished.exit_code, 2) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(part));
    EXPECT_EQ(finished.out, "");
  }
}

}  // namespace
}  // namespace spate::testing
