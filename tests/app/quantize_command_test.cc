// spate quantize, as a program.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "app/subprocess.h"
#include "base/file.h"

#include "support/gguf_builder.h"
#include "support/random_model.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class QuantizeCommand : public ::testing::Test {
 protected:
  QuantizeCommand() {
    const auto written = random_model({.n_layers = 2, .d_ff = 256, .types = {QuantType::kF16}}).write(in_);
    EXPECT_TRUE(written.ok()) << written.error().message;
  }

  int n_files() const {
    const std::filesystem::directory_iterator entries(std::filesystem::path(in_).parent_path());
    return static_cast<int>(std::distance(begin(entries), end(entries)));
  }

  TemporaryFolder folder_;
  std::string in_ = folder_.path("in.gguf"), out_ = folder_.path("out.gguf");
};

TEST_F(QuantizeCommand, Json_HasTheFieldsThatScriptsRelyOn) {
  const Finished finished = run_spate({"quantize", in_, out_, "q4_k_m", "--json", "--threads", "2"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.err, "");
  const json result = json::parse(finished.out);
  EXPECT_EQ(result.at("type"), "Q4_K_M");
  EXPECT_EQ(result.at("output"), out_);
  EXPECT_EQ(result.at("dry_run"), false);
  EXPECT_LT(result.at("bytes_after"), result.at("bytes_before"));
  EXPECT_GT(result.at("bits_per_weight"), 4.5);
  EXPECT_GT(result.at("relative_rms_error"), 0.01);
  EXPECT_LT(result.at("relative_rms_error"), 0.2);
  EXPECT_GT(result.at("timings").at("weights_per_second"), 0);
  uint64_t bytes_after = 0;
  for (const json& tensor : result.at("tensors")) {
    bytes_after += tensor.at("bytes_after").get<uint64_t>();
    EXPECT_EQ(tensor.at("relative_rms_error") == 0.0, tensor.at("from") == tensor.at("to")) << tensor;
  }
  EXPECT_EQ(result.at("bytes_after"), bytes_after);

  const json inspected = json::parse(run_spate({"inspect", out_, "--json"}).out);
  EXPECT_EQ(inspected.at("tensors").size(), result.at("tensors").size());
}

TEST_F(QuantizeCommand, Text_HasSizesAndErrors) {
  const Finished finished = run_spate({"quantize", in_, out_, "Q8_0"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("Q8_0       16 tensors"));
  EXPECT_THAT(finished.out, HasSubstr("bits a weight, in "));
  EXPECT_THAT(finished.out, HasSubstr("RMS error 0."));
}

TEST_F(QuantizeCommand, Text_CountsEveryTensorAlsoOfTypesThatAreOnlyCopied) {
  GgufWriter model = random_model({.n_layers = 2, .d_ff = 256, .types = {QuantType::kF16}});
  const std::vector<std::byte> ids(4 * sizeof(int32_t));
  model.add_tensor("ids", find_quant_traits(26)->type, {4}, ids);
  ASSERT_TRUE(model.write(in_).ok());
  const Finished finished = run_spate({"quantize", in_, out_, "Q8_0", "--force"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("I32         1 tensors                4 weights         16 B"));
}

TEST_F(QuantizeCommand, DryRun_ShowsThePlanAndWritesNothing) {
  const Finished finished =
      run_spate({"quantize", in_, out_, "q4_k_m", "--dry-run", "--tensor-type", "*attn_q*=iq4_nl"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out,
              ::testing::ContainsRegex("blk\\.1\\.attn_q\\.weight +128\\.0 KiB F16 +-> IQ4_NL +36\\.0 KiB"));
  EXPECT_THAT(finished.out, ::testing::ContainsRegex("output\\.weight .* F16 +-> Q6_K"));
  EXPECT_EQ(n_files(), 1);
}

TEST_F(QuantizeCommand, BadUses_AreOneLineWithExitCode2) {
  for (const auto& [arguments, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{in_, out_}, "TYPE is required"},
           {{in_, out_, "q4_k"}, "'q4_k' is no type to quantise to; there are F32, F16,"},
           {{in_, in_, "q4_0"}, "is the input itself"},
           {{in_, out_, "q4_0", "--tensor-type", "q6_k"}, "'q6_k' is not PATTERN=TYPE"},
           {{in_, out_, "q4_0", "--tensor-type", "*=q9"}, "'q9' is no tensor type; there are F32"},
           {{in_, out_, "q4_0", "--tensor-type", "nothing=q4_0"}, "'nothing' fits no matrix"},
           {{in_, out_, "q4_0", "--output-type", "q4_k_m"}, "'q4_k_m' is no tensor type"},
           {{in_, out_, "q4_0", "--threads", "0"}, "'0'"}}) {
    std::vector<std::string> all{"quantize"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Finished finished = run_spate(all);
    EXPECT_EQ(finished.exit_code, 2) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(part));
    EXPECT_EQ(finished.err.find('\n'), finished.err.size() - 1);
    EXPECT_EQ(finished.out, "");
    EXPECT_EQ(n_files(), 1);
  }
}

TEST_F(QuantizeCommand, InputUnderAnotherName_IsRecognised) {
  const std::string before = read_file(in_).value();
  std::filesystem::create_symlink(in_, out_);
  std::filesystem::create_hard_link(in_, folder_.path("hard.gguf"));
  for (const std::string& name : {out_, folder_.path("hard.gguf"), folder_.path("./in.gguf")}) {
    const Finished finished = run_spate({"quantize", in_, name, "q4_0"});
    EXPECT_EQ(finished.exit_code, 2) << name;
    EXPECT_THAT(finished.err, HasSubstr("is the input itself"));
  }
  EXPECT_TRUE(read_file(in_).value() == before);
}

TEST_F(QuantizeCommand, NamesTheWrongWayRound_LeaveTheOriginal) {
  ASSERT_EQ(run_spate({"quantize", in_, out_, "q4_k_m"}).exit_code, 0);
  const std::string original = read_file(in_).value();
  for (const std::vector<std::string>& options : {std::vector<std::string>{}, {"--force"}}) {
    std::vector<std::string> arguments = {"quantize", out_, in_, "q4_k_m"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Finished finished = run_spate(arguments);
    EXPECT_EQ(finished.exit_code, 2) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr("nothing to convert"));
    EXPECT_TRUE(read_file(in_).value() == original);
  }
}

TEST_F(QuantizeCommand, OutputThatExists_IsReplacedOnlyByForce) {
  write_file(out_, "something dear");
  const Finished refused = run_spate({"quantize", in_, out_, "q4_0"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.err, "spate: " + out_ + " exists; --force replaces it\n");
  EXPECT_EQ(run_spate({"quantize", in_, out_, "q4_0", "--dry-run"}).exit_code, 0);
  EXPECT_EQ(read_file(out_).value(), "something dear");
  const Finished forced = run_spate({"quantize", in_, out_, "q4_0", "--force"});
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_EQ(run_spate({"inspect", out_}).exit_code, 0);
}

TEST_F(QuantizeCommand, OutputThatCannotBe_IsOneLineWithExitCode3) {
  for (const std::string& out : {std::string("/no/such/folder/out.gguf"), std::string("/dev/full"), folder_.path("")}) {
    const Finished finished = run_spate({"quantize", in_, out, "q4_0"});
    EXPECT_EQ(finished.exit_code, 3) << out << ": " << finished.err;
    EXPECT_EQ(finished.err.find('\n'), finished.err.size() - 1);
    EXPECT_EQ(n_files(), 1);
  }
}

TEST_F(QuantizeCommand, CtrlC_LeavesNothingBehind) {
  SPATE_REQUIRE_SHARED("models/classics-33m-f16.gguf");
  SpateProcess process({"quantize", shared_path("models/classics-33m-f16.gguf"), out_, "iq4_xs", "--threads", "1"});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (n_files() == 1 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ASSERT_EQ(n_files(), 2) << "it is being written beside its name";
  process.send_signal(SIGINT);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 8) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("nothing was written"));
  EXPECT_EQ(n_files(), 1);
}

}  // namespace
}  // namespace spate::testing
