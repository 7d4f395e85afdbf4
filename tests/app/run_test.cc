// spate run, as a program, on the bundled model.
#include <cmath>
#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

#include "app/subprocess.h"
#include "base/file.h"
#include "base/utf8.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const std::string kPrompt = "The Mole had been working very hard all the morning,";

json golden_prompts() {
  return json::parse(read_file(fixture_path("demo/golden-q4_k_m.json")).value()).at("prompts");
}

json run_json(std::vector<std::string> arguments, std::string_view standard_input = {}) {
  arguments.insert(arguments.begin(), {"run", "--json"});
  const Finished finished = run_spate(arguments, standard_input);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  return json::parse(finished.out);
}

TEST(Run, Json_HasTheFieldsThatScriptsRelyOn) {
  const json result = run_json({"-p", kPrompt, "-n", "5", "--temperature", "0"});
  EXPECT_EQ(result.at("prompt_tokens"), 11);
  EXPECT_EQ(result.at("finish_reason"), "length");
  EXPECT_EQ(result.at("token_ids"), (json{279, 348, 482, 567, 3977}));  // golden; each margin is over 0.35
  EXPECT_EQ(result.at("text"), " and had been very busy");
  EXPECT_TRUE(result.at("seed").is_number_unsigned());
  for (const char* timing :
       {"load_seconds", "prompt_seconds", "prompt_tokens_per_second", "decode_seconds", "decode_tokens_per_second"})
    EXPECT_GT(result.at("timings").at(timing).get<double>(), 0) << timing;
  EXPECT_FALSE(result.contains("logprobs"));
  EXPECT_FALSE(result.contains("prompt_logprobs"));
}

TEST(Run, Text_StreamsWhatJsonHoldsAndEndsWithTheSpeed) {
  const std::vector<std::string> arguments{"-p", kPrompt, "-n", "12", "--temperature", "0"};
  std::vector<std::string> as_text{"run"};
  as_text.insert(as_text.end(), arguments.begin(), arguments.end());
  const Finished finished = run_spate(as_text);
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.out, run_json(arguments).at("text").get<std::string>() + "\n");
  EXPECT_THAT(finished.err, MatchesRegex("prompt 11 tokens, [0-9.]+ tok/s; generated 12 tokens, [0-9.]+ tok/s; .*\n"));
}

TEST(Run, ThreadsAndRepacking_ChangeNoToken) {
  const json whole = run_json({"-p", kPrompt, "-n", "16", "--seed", "3"});
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--threads", "1"}, {"--threads", "3"}, {"--no-repack"}, {"--device", "cpu", "--ctx", "64"}}) {
    std::vector<std::string> arguments{"-p", kPrompt, "-n", "16", "--seed", "3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(run_json(arguments).at("token_ids"), whole.at("token_ids")) << more[0];
  }
}

TEST(Run, Seed_DecidesTheText) {
  const std::vector<std::string> arguments{"-p", kPrompt, "-n", "24", "--temperature", "1.5", "--top-k", "0"};
  const auto with_seed = [&](const std::string& seed) {
    auto all = arguments;
    all.insert(all.end(), {"--seed", seed});
    return run_json(all).at("token_ids");
  };
  EXPECT_EQ(with_seed("1"), with_seed("1"));
  EXPECT_NE(with_seed("1"), with_seed("2"));
  const json free = run_json(arguments);
  EXPECT_EQ(with_seed(std::to_string(free.at("seed").get<uint64_t>())), free.at("token_ids"));
}

TEST(Run, StopString_EndsTheTextBeforeIt) {
  const json result = run_json({"-p", kPrompt, "-n", "40", "--temperature", "0", "--stop", "{}", "--stop", "ry bu"});
  EXPECT_EQ(result.at("text"), " and had been ve");
  EXPECT_EQ(result.at("finish_reason"), "stop");
  EXPECT_EQ(result.at("stop_string"), "ry bu");
}

TEST(Run, LogitBias_ForbidsAToken) {
  const json result = run_json({"-p", kPrompt, "-n", "1", "--temperature", "0", "--logit-bias", "279=-inf"});
  // The second and the third of the golden logits are 0.04 apart.
  EXPECT_THAT(result.at("token_ids")[0].get<int>(), ::testing::AnyOf(398, 340));
}

TEST(Run, PromptFromStandardInputOrAFile_IsTheSame) {
  const TemporaryFolder folder;
  const std::string path = folder.path("prompt.txt");
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write(kPrompt).ok());
    ASSERT_TRUE(file->commit().ok());
  }
  const json given = run_json({"-p", kPrompt, "-n", "4", "--temperature", "0"});
  EXPECT_EQ(run_json({"-p", "-", "-n", "4", "--temperature", "0"}, kPrompt).at("token_ids"), given.at("token_ids"));
  EXPECT_EQ(run_json({"-f", path, "-n", "4", "--temperature", "0"}).at("token_ids"), given.at("token_ids"));
}

TEST(Run, PromptLogprobs_AreTheGoldenOnes) {
  for (const json& golden : golden_prompts()) {
    const json result = run_json({"-p", "-", "-n", "0", "--prompt-logprobs"}, golden.at("prompt").get<std::string>());
    EXPECT_EQ(result.at("prompt_ids"), golden.at("ids"));
    EXPECT_EQ(result.at("text"), "");
    const auto logprobs = result.at("prompt_logprobs").get<std::vector<double>>();
    const auto expected = golden.at("prompt_logprobs").get<std::vector<double>>();
    ASSERT_EQ(logprobs.size(), expected.size());
    ASSERT_EQ(result.at("prompt_argmax").size(), expected.size());
    // int8 activations: 0.10 at most on this model. A wrong scale or page moves a log-probability by whole units.
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(logprobs[i], expected[i], 0.15) << golden.at("prompt") << ", token " << i + 1;
  }
}

TEST(Run, TeacherForced_ArgMaxIsGoldenWhereverTheMarginIsClear) {
  int n_compared = 0;
  for (const json& golden : golden_prompts()) {
    const json result = run_json({"-p", "-", "-n", "0", "--prompt-logprobs"},
                                 golden.at("prompt").get<std::string>() + golden.at("greedy_text").get<std::string>());
    std::vector<int> ids = golden.at("ids"), greedy = golden.at("greedy_ids");
    const size_t n_prompt = ids.size();
    ids.insert(ids.end(), greedy.begin(), greedy.end());
    // The text may be cut into other tokens than those that were generated: compare as far as they agree.
    const std::vector<int> prompt_ids = result.at("prompt_ids"), argmax = result.at("prompt_argmax");
    for (size_t i = 1; i < std::min(ids.size(), prompt_ids.size()) && prompt_ids[i] == ids[i]; ++i) {
      if (i < n_prompt || golden.at("greedy_margin")[i - n_prompt].get<double>() <= 0.15) continue;
      EXPECT_EQ(argmax[i - 1], ids[i]) << golden.at("prompt") << ", generated token " << i - n_prompt;
      ++n_compared;
    }
  }
  EXPECT_GT(n_compared, 200);
}

TEST(Run, Logprobs_ListTheMostLikelyTokens) {
  const json golden = golden_prompts().at(0);
  const json result = run_json({"-p", kPrompt, "-n", "3", "--temperature", "0", "--logprobs", "4"});
  const json& logprobs = result.at("logprobs");
  ASSERT_EQ(logprobs.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const json& entry = logprobs[i];
    EXPECT_EQ(entry.at("id"), result.at("token_ids")[i]);
    ASSERT_EQ(entry.at("top").size(), 4u);
    EXPECT_EQ(entry.at("top")[0].at("id"), entry.at("id")) << "greedy takes the most likely token";
    EXPECT_EQ(entry.at("top")[0].at("logprob"), entry.at("logprob"));
    EXPECT_LE(entry.at("top")[3].at("logprob").get<double>(), entry.at("top")[2].at("logprob").get<double>());
  }
  EXPECT_EQ(logprobs[0].at("token"), " and");
  EXPECT_EQ(logprobs[0].at("top")[0].at("id"), golden.at("last_top16_ids")[0]);
}

TEST(Run, NoSpecial_ReadsSpecialTokensAsPlainText) {
  const int special = run_json({"-p", "<|im_end|>", "-n", "0"}).at("prompt_tokens");
  const int plain = run_json({"-p", "<|im_end|>", "-n", "0", "--no-special"}).at("prompt_tokens");
  EXPECT_EQ(special, 1);
  EXPECT_GT(plain, 1);
}

// The bias on <|im_end|> lets the turn end soon: how a long text goes on depends on how a processor's kernels round.
TEST(Run, AChatTurn_EndsWithoutPrintingItsEndToken) {
  const json result = run_json({"-p", "<|im_start|>user\nTell me about the river.<|im_end|>\n<|im_start|>assistant\n",
                                "-n", "900", "--temperature", "0", "--logit-bias", "16383=6"});
  EXPECT_EQ(result.at("finish_reason"), "stop");
  EXPECT_FALSE(result.contains("stop_string"));
  EXPECT_THAT(result.at("text").get<std::string>(), ::testing::Not(HasSubstr("<|im_end|>")));
}

TEST(Run, AnyBytesInThePrompt_GiveValidText) {
  const Finished finished = run_spate({"run", "-p", "-", "-n", "20", "--temperature", "2", "--seed", "5"},
                                      std::string_view("\xff\x00\xe2\x82 \xf0\x9f", 8));
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_TRUE(is_valid_utf8(finished.out));
}

TEST(Run, CtrlC_EndsWithWhatWasGenerated) {
  SpateProcess process({"run", "-p", kPrompt, "-n", "1000", "--temperature", "0"});
  const std::string first = process.read_some();
  EXPECT_NE(first, "");
  process.send_signal(SIGINT);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 8);
  EXPECT_THAT(first + finished.out, HasSubstr(" and"));
  EXPECT_THAT(finished.err, HasSubstr("tok/s"));
  EXPECT_THAT(finished.err, HasSubstr("spate: stopped by a signal after "));
}

TEST(Run, CtrlCUnderJson_StillWritesTheObject) {
  SpateProcess process({"run", "-p", kPrompt, "-n", "1000", "--temperature", "0", "--json", "--log", "info"});
  // Nothing is written before the end; the log line says that generation has begun.
  while (process.error_so_far().find("generating") == std::string::npos) usleep(2000);
  process.send_signal(SIGINT);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 8) << finished.err;
  const json result = json::parse(finished.out);
  EXPECT_EQ(result.at("finish_reason"), "interrupted");
  EXPECT_LT(result.at("token_ids").size(), 1000u);
}

TEST(Run, ReaderThatLeaves_EndsQuietly) {
  SpateProcess process({"run", "-p", kPrompt, "-n", "1000", "--temperature", "0"});
  EXPECT_NE(process.read_some(), "");
  process.close_stdout();
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
}

TEST(Run, WhatCannotRun_IsOneLineWithItsExitCode) {
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    std::string part;
  };
  for (const Case& c : std::vector<Case>{{{}, 2, "no prompt"},
                                         {{"-p", "x", "-f", "y"}, 2, "not both"},
                                         {{"-p", ""}, 2, "prompt is empty"},
                                         {{"-p", "x", "--logprobs", "3"}, 2, "--json"},
                                         {{"-p", "x", "--logprobs", "33", "--json"}, 2, "'33'"},
                                         {{"-p", "x", "--stop", ""}, 2, "stop string"},
                                         {{"-p", "x", "--logit-bias", "16384=1"}, 2, "16384"},
                                         {{"-f", "/nonexistent/prompt.txt"}, 3, "/nonexistent/prompt.txt"},
                                         {{"-p", "x", "--device", "cuda:99"}, 5, "CUDA"},
                                         {{"-p", "x", "--device", "cuda:x"}, 2, "cuda:N"},
                                         {{"-p", "x", "--device", "cpu", "--tune", "graphs=0"}, 2, "for GPUs"},
                                         {{"-p", "x", "--device", "cpu", "--kv-type", "q8_0"}, 2, "for GPUs"},
                                         {{"-p", "x", "--device", "cpu", "--prefill-precision", "fp8"}, 2, "for GPUs"},
                                         {{"-p", "x", "--prefill-precision", "int8"}, 2, "fp8"},
                                         {{"-p", kPrompt, "--ctx", "11"}, 6, "context of 11"}}) {
    std::vector<std::string> arguments{"run"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const Finished finished = run_spate(arguments);
    EXPECT_EQ(finished.exit_code, c.exit_code) << c.part;
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n")) << c.part;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
    EXPECT_EQ(finished.out, "") << c.part;
  }
}

}  // namespace
}  // namespace spate::testing
