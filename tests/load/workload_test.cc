#include "load/workload.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

namespace spate::load {
namespace {

using ::testing::HasSubstr;

TEST(Workload, SameSeed_SameJobsAndOtherSeedsOthers) {
  const WorkloadOptions options{.prompt = Lengths::parse("uniform:5-50").value(),
                                .output = Lengths::parse("uniform:1-9").value()};
  const Workload one(options), again(options);
  WorkloadOptions other_options = options;
  other_options.seed = 2;
  const Workload other(other_options);
  std::set<std::string> texts;
  for (int64_t i = 0; i < 50; ++i) {
    const Job job = one.job(1, i);
    EXPECT_EQ(job.text, again.job(1, i).text);
    EXPECT_EQ(job.output_tokens, again.job(1, i).output_tokens);
    EXPECT_GE(job.text.size(), 5u);
    EXPECT_LE(job.text.size(), 50u);
    texts.insert(job.text);
    texts.insert(other.job(1, i).text);
    texts.insert(one.job(2, i).text);  // of another level
  }
  EXPECT_EQ(texts.size(), 150u);
}

TEST(Workload, Letters_AreOneByteEach) {
  const Job job = Workload({.prompt = Lengths::fixed(300), .output = Lengths::fixed(7)}).job(0, 0);
  EXPECT_EQ(job.text.size(), 300u);
  EXPECT_EQ(job.text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), std::string::npos);
  EXPECT_EQ(job.output_tokens, 7);
  EXPECT_TRUE(job.ids.empty());
}

TEST(Workload, Words_BeginWithASpaceEach) {
  const Job job = Workload({.prompt = Lengths::fixed(300), .unit = PromptUnit::kWord}).job(0, 0);
  EXPECT_EQ(std::count(job.text.begin(), job.text.end(), ' '), 300);
  EXPECT_EQ(job.text.find("  "), std::string::npos);
}

TEST(Workload, Ids_AreBelowTheirBound) {
  const Job job =
      Workload({.prompt = Lengths::fixed(500), .unit = PromptUnit::kId, .n_ids = 10, .shared_prefix = 100}).job(0, 0);
  EXPECT_EQ(job.text, "");
  EXPECT_EQ(job.ids.size(), 500u);
  EXPECT_EQ(std::set<int>(job.ids.begin(), job.ids.end()).size(), 10u);
  EXPECT_THAT(job.ids, ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(10))));
}

TEST(Workload, SharedPrefix_IsOneOfSoMany) {
  const Workload workload({.prompt = Lengths::fixed(60), .shared_prefix = 40, .n_prefixes = 3});
  std::set<std::string> prefixes, rests;
  for (int64_t i = 0; i < 60; ++i) {
    const std::string text = workload.job(1, i).text;
    ASSERT_EQ(text.size(), 60u);
    prefixes.insert(text.substr(0, 40));
    rests.insert(text.substr(40));
  }
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_EQ(rests.size(), 60u);
  EXPECT_FALSE(prefixes.contains(workload.job(2, 0).text.substr(0, 40))) << "another level has others";
  // A prompt that is shorter than the prefix is part of it.
  const Workload shorter({.prompt = Lengths::fixed(10), .shared_prefix = 40});
  EXPECT_EQ(shorter.job(1, 0).text, shorter.job(1, 1).text);
  EXPECT_EQ(shorter.job(1, 0).text.size(), 10u);
}

TEST(Workload, Trace_GivesTheLengthsInTurn) {
  const Workload workload(
      {.trace = {{.prompt_tokens = 3, .output_tokens = 4}, {.prompt_tokens = 5, .output_tokens = 6}}});
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(workload.job(1, i).text.size(), i % 2 == 0 ? 3u : 5u);
    EXPECT_EQ(workload.job(1, i).output_tokens, i % 2 == 0 ? 4 : 6);
  }
  EXPECT_NE(workload.job(1, 0).text, workload.job(1, 2).text);
}

TEST(Trace, Times_CountFromTheFirst) {
  const Result<Trace> trace = Trace::parse(
      "{\"timestamp\": 5000, \"input_length\": 10, \"output_length\": 2, \"hash_ids\": [1]}\r\n\n"
      "{\"timestamp\": 5250.5, \"input_length\": 20, \"output_length\": 1}",
      "t.jsonl");
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  EXPECT_TRUE(trace->has_times);
  ASSERT_EQ(trace->entries.size(), 2u);
  EXPECT_EQ(trace->entries[0].at_s, 0);
  EXPECT_DOUBLE_EQ(trace->entries[1].at_s, 0.2505);
  EXPECT_EQ(trace->entries[1].prompt_tokens, 20);
  EXPECT_FALSE(Trace::parse("{\"input_length\": 1, \"output_length\": 1}\n", "t").value().has_times);
}

TEST(Trace, WhatIsNone_IsAnErrorWithItsLine) {
  const std::string good = "{\"timestamp\": 5, \"input_length\": 1, \"output_length\": 1}\n";
  const struct {
    std::string text, part;
  } cases[] = {
      {"", "t.jsonl: holds no request"},
      {"\n \n", "holds no request"},
      {good + "[1]\n", "t.jsonl, line 2: is no JSON object"},
      {good + "\n{\"a\"\n", "line 3: is no JSON object"},
      {good + "{\"timestamp\": 6, \"input_length\": 0, \"output_length\": 1}", "line 2: has no input_length"},
      {good + "{\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1.5}", "line 2: has no input_length"},
      {good + "{\"timestamp\": 6, \"input_length\": 1e30, \"output_length\": 1}", "line 2: has no input_length"},
      {good + "{\"timestamp\": 4, \"input_length\": 1, \"output_length\": 1}", "line 2: is earlier"},
      {good + "{\"timestamp\": \"6\", \"input_length\": 1, \"output_length\": 1}", "line 2: its timestamp"},
      {good + "{\"input_length\": 1, \"output_length\": 1}", "line 2: some lines have a timestamp"},
  };
  for (const auto& c : cases) {
    const Result<Trace> trace = Trace::parse(c.text, "t.jsonl");
    ASSERT_FALSE(trace.ok()) << c.text;
    EXPECT_THAT(trace.error().message, HasSubstr(c.part));
  }
}

}  // namespace
}  // namespace spate::load
