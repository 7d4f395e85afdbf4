// spate bench and spate synth as programs.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "app/subprocess.h"
#include "base/file.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A model of random weights, small enough to measure in no time.
const std::string& tiny_model() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    std::string made = folder.path("tiny.gguf");
    const Finished finished = run_spate({"synth", "tiny", "Q4_K_M", made});
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr("50 tensors"));
    EXPECT_EQ(finished.out, "");
    return made;
  }();
  return path;
}

TEST(BenchCommand, Json_HasARowForEveryCaseInTheUnitsThatItNames) {
  const Finished finished =
      run_spate({"bench", tiny_model(), "--prompt", "40", "--generate", "4", "--batch", "1,3", "--depth", "0,33",
                 "--repeat", "2", "--step-tokens", "32", "--device", "cpu", "--threads", "1", "--json"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const json result = json::parse(finished.out);
  const double read_gb_s = result.at("read_gb_s");
  EXPECT_GT(read_gb_s, 0.1);
  EXPECT_LT(read_gb_s, 10000);
  EXPECT_GT(result.at("peak_gmac_s").at("quantised").get<double>(), 0.1);
  EXPECT_EQ(result.at("threads"), 1);
  for (const char* key : {"version", "commit", "device", "isa", "model", "processor"})
    EXPECT_NE(result.at(key).get<std::string>(), "") << key;
  const json& rows = result.at("rows");
  ASSERT_EQ(rows.size(), 12u);
  EXPECT_EQ(rows[0].at("test"), "prefill");
  EXPECT_EQ(rows[5].at("test"), "decode");
  EXPECT_EQ(rows[11].at("test"), "mixed");
  for (const json& row : rows) {
    const bool prefill = row.at("test") == "prefill", mixed = row.at("test") == "mixed";
    const int batch = row.at("batch");
    EXPECT_EQ(row.at("n_prompt"), prefill || mixed ? 40 : 0);
    EXPECT_EQ(row.at("n_generate"), prefill ? 0 : 4);
    const double tok_s = row.at("tok_s"),
                 seconds = row.at("ms_per_step").get<double>() / 1e3 * row.at("n_steps").get<int>();
    EXPECT_NEAR(tok_s * seconds, prefill ? 40 * batch : 4 * batch + (mixed ? 40 : 0), 0.01);
    EXPECT_NEAR(row.at("gb_s").get<double>() / read_gb_s, row.at("read_share").get<double>(), 1e-6);
    EXPECT_EQ(row.at("peak_share"), row.at(prefill ? "math_share" : "read_share"));
    EXPECT_GE(tok_s, row.at("tok_s_min").get<double>());
    EXPECT_LE(tok_s, row.at("tok_s_max").get<double>());
  }
  // A decode step of one sequence reads the weights, 2.1 MB, and next to nothing else.
  const double step_bytes = rows[4].at("gb_s").get<double>() * rows[4].at("ms_per_step").get<double>() * 1e6;
  EXPECT_NEAR(step_bytes / result.at("weight_bytes_per_step").get<double>(), 1, 0.02);
}

TEST(BenchCommand, TableAndPlot_ShowTheCases) {
  const TemporaryFolder folder;
  const std::string plot = folder.path("plot.svg");
  const Finished finished =
      run_spate({"bench", tiny_model(), "--test", "decode", "--generate", "2", "--batch", "1,2,16", "--repeat", "1",
                 "--warmup", "0", "--device", "cpu", "--threads", "1", "--plot", plot});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("multiply-adds a second"));
  EXPECT_EQ(std::count(finished.out.begin(), finished.out.end(), '\n'), 3 + 1 + 3);
  const std::string svg = read_file(plot).value();
  EXPECT_THAT(svg, HasSubstr("sequences in the batch"));
  EXPECT_THAT(svg, HasSubstr("generate 2, depth 0"));
  EXPECT_THAT(svg, HasSubstr("</svg>"));
}

TEST(BenchCommand, Kernels_AreTimedWithoutAModel) {
  const Finished finished = run_spate({"bench", "--kernels", "--kernel-types", "q4_k,F16", "--kernel-tokens", "1",
                                       "--kernel-shapes", "4096x256", "--kernel-mib", "4", "--repeat", "1", "--isa",
                                       "portable", "--device", "cpu", "--threads", "1", "--json"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const json result = json::parse(finished.out);
  ASSERT_EQ(result.at("kernels").size(), 2u);
  for (const json& row : result.at("kernels")) {
    EXPECT_EQ(row.at("isa"), "portable");
    EXPECT_EQ(row.at("n_rows"), 4096);
    EXPECT_NEAR(row.at("gb_s").get<double>() / result.at("read_gb_s").get<double>(), row.at("read_share").get<double>(),
                1e-6);
  }
  EXPECT_EQ(result.at("kernels")[0].at("type"), "Q4_K");
  // As many whole matrices as 4 MiB hold: 7 of 576 KiB, 2 of 2 MiB.
  EXPECT_EQ(result.at("kernels")[0].at("pass_bytes"), 7 * 576 * 1024);
  EXPECT_EQ(result.at("kernels")[1].at("pass_bytes"), 4 << 20);
}

TEST(BenchCommand, WhatCannotBeMeasured_IsOneLine) {
  const struct {
    std::vector<std::string> arguments;
    int exit_code;
    std::string part;
  } cases[] = {
      {{"--batch", "1,,2"}, 2, "'' is not a number from 1 to 65536, or a list of such"},
      {{"--batch", "1,0"}, 2, "'0' is not a number from 1 to 65536"},
      {{"--depth", "-1"}, 2, "'-1' is not a number from 0 to"},
      {{"--test", "decode,sleep"}, 2, "'sleep' is not prefill, decode or mixed"},
      {{"--kernel-shapes", "4096"}, 2, "kernel"},
      {{"--prompt", "0", "--generate", "0"}, 2, "nothing to measure"},
      {{"--plot", "/no/such/folder/plot.svg"}, 3, "/no/such/folder"},
      {{"--plot", tiny_model()}, 2, "does not end in .svg"},
      {{"--kernels"}, 2, "MODEL excludes --kernels"},
      {{"--batch", "65536", "--depth", "16777216"}, 6, "KV pages"},
      {{"--batch", "16384", "--depth", "1000000", "--repeat", "1"}, 6, "do not fit"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> arguments = {"bench", tiny_model()};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const Finished finished = run_spate(arguments);
    EXPECT_EQ(finished.exit_code, c.exit_code) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
    EXPECT_EQ(finished.out, "");
  }
}

TEST(BenchCommand, Kernels_TakeNoOptionOfAModel) {
  for (const std::vector<std::string>& pair : {std::vector<std::string>{"--prompt", "8"},
                                               {"--generate", "8"},
                                               {"--batch", "2"},
                                               {"--depth", "8"},
                                               {"--test", "decode"},
                                               {"--plot", "a.svg"}}) {
    const Finished finished = run_spate({"bench", "--kernels", pair[0], pair[1]});
    EXPECT_EQ(finished.exit_code, 2) << pair[0];
    EXPECT_THAT(finished.err, HasSubstr("excludes"));
    EXPECT_THAT(finished.err, HasSubstr(pair[0]));
  }
}

// More than anybody waits for.
std::vector<std::string> endless_bench() {
  return {"bench",    tiny_model(), "--test",   "decode", "--generate", "64",
          "--repeat", "10000",      "--device", "cpu",    "--threads",  "1"};
}

TEST(BenchCommand, TerminalThatGoes_LeavesNoPartOfAPlot) {
  const TemporaryFolder folder;
  std::vector<std::string> arguments = endless_bench();
  arguments.insert(arguments.end(), {"--plot", folder.path("plot.svg")});
  SpateProcess process(arguments);
  for (std::string text; text.find("tok/s") == std::string::npos;) {
    const std::string more = process.read_some();
    ASSERT_NE(more, "") << process.error_so_far();
    text += more;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("."))) << "not even while it measures";
  process.send_signal(SIGHUP);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 8) << finished.err;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path(".")));
}

TEST(BenchCommand, ReaderThatLeaves_EndsItQuietly) {
  for (std::vector<std::string> arguments :
       {endless_bench(), std::vector<std::string>{"bench", "--kernels", "--kernel-mib", "1", "--device", "cpu"}}) {
    SpateProcess process(arguments);
    process.close_stdout();
    const Finished finished = process.finish();
    EXPECT_EQ(finished.exit_code, 0);
    EXPECT_EQ(finished.signal, 0);
    EXPECT_EQ(finished.err, "");
  }
}

TEST(BenchCommand, FullDisk_ExitsWith3) {
  const TemporaryFolder folder;
  const std::string errors = folder.path("stderr");
  std::string command = "'" SPATE_EXECUTABLE "'";
  for (const std::string& argument : endless_bench()) command += " '" + argument + "'";
  const int status = std::system((command + " > /dev/full 2> '" + errors + "'").c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_EQ(read_file(errors).value(), "spate: standard output: No space left on device\n");
}

TEST(SynthCommand, BadUses_AreOneLineAndLeaveNothing) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path("");
  for (const auto& [arguments, exit_code, part] : std::vector<std::tuple<std::vector<std::string>, int, std::string>>{
           {{"huge", "q8_0", folder + "/a.gguf"}, 2, "qwen3-8b"},
           {{"tiny", "q9_9", folder + "/a.gguf"}, 2, "Q4_K_M"},
           {{"tiny", "q8_0"}, 2, "OUT"},
           {{"tiny", "q8_0", folder + "/a.gguf", "--layers", "0"}, 2, "'0'"},
           {{"tiny", "q8_0", folder}, 3, "regular file"},
       }) {
    std::vector<std::string> all = {"synth"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Finished finished = run_spate(all);
    EXPECT_EQ(finished.exit_code, exit_code) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(part));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

}  // namespace
}  // namespace spate::testing
