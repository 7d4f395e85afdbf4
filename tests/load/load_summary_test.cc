#include "load/load_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::load {
namespace {

TEST(Percentile, IsTheElementAtThatShareOfTheValues) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i) values.push_back(i);
  EXPECT_EQ(percentile(values, 0), 0);
  EXPECT_EQ(percentile(values, 50), 50);
  EXPECT_EQ(percentile(values, 99), 99);
  EXPECT_EQ(percentile(values, 100), 99);
  EXPECT_EQ(percentile({3, 5}, 49), 3);
  EXPECT_EQ(percentile({3, 5}, 50), 5);
  EXPECT_EQ(percentile({3}, 50), 3);
  EXPECT_EQ(percentile({}, 50), 0);
}

TEST(Percentiles, OfValuesInAnyOrder) {
  const Percentiles percentiles = percentiles_of({4, 1, 3, 2});
  EXPECT_EQ(percentiles.n, 4);
  EXPECT_EQ(percentiles.mean, 2.5);
  EXPECT_EQ(percentiles.p50, 3);
  EXPECT_EQ(percentiles.p99, 4);
  EXPECT_EQ(percentiles.max, 4);
  EXPECT_EQ(percentiles_of({}).n, 0);
}

TEST(Summary, CountsWhatSucceededAndWhatDidNotByItsKind) {
  const LevelResult result{
      .requests = {{.due_s = 1, .first_s = 1.5, .last_s = 2.5, .end_s = 3, .prompt_tokens = 10, .output_tokens = 5},
                   {.due_s = 2, .end_s = 2.1, .failure = "http 429", .detail = "first"},
                   {.due_s = 2, .first_s = 4, .last_s = 4, .end_s = 4.5, .prompt_tokens = 20, .output_tokens = 1},
                   {.due_s = 2, .end_s = 2.2, .failure = "http 429", .detail = "second"},
                   {.due_s = 2, .first_s = 3, .end_s = 3, .output_tokens = 99, .failure = "timeout", .detail = "slow"}},
      .gaps_s = {0.25f, 0.75f},
      .wall_s = 5,
      .most_in_flight = 3};
  const LevelSummary summary = summarise(result);
  EXPECT_EQ(summary.n_requests, 5);
  EXPECT_EQ(summary.n_ok, 2);
  EXPECT_EQ(summary.n_failed(), 3);
  ASSERT_EQ(summary.failures.size(), 2u);
  EXPECT_EQ(summary.failures.at("http 429").n, 2);
  EXPECT_EQ(summary.failures.at("http 429").example, "first");
  EXPECT_EQ(summary.failures.at("timeout").n, 1);
  EXPECT_EQ(summary.prompt_tokens, 30);
  EXPECT_EQ(summary.output_tokens, 6);
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_s(), 6.0 / 5);
  EXPECT_DOUBLE_EQ(summary.total_tokens_per_s(), 36.0 / 5);
  EXPECT_DOUBLE_EQ(summary.requests_per_s(), 2.0 / 5);
  EXPECT_DOUBLE_EQ(summary.ttft.p50, 2);
  EXPECT_DOUBLE_EQ(summary.ttft.mean, 1.25);
  EXPECT_DOUBLE_EQ(summary.end_to_end.max, 2.5);
  EXPECT_DOUBLE_EQ(summary.gap.mean, 0.5);
  // An answer of one token has no rate.
  EXPECT_EQ(summary.per_token.n, 1);
  EXPECT_DOUBLE_EQ(summary.per_token.p50, 0.25);
}

TEST(Summary, OfNothing_IsZero) {
  const LevelSummary summary = summarise({});
  EXPECT_EQ(summary.n_requests, 0);
  EXPECT_EQ(summary.output_tokens_per_s(), 0);
  EXPECT_EQ(summary.ttft.p99, 0);
}

}  // namespace
}  // namespace spate::load
