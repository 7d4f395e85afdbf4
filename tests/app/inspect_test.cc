// spate inspect, as a program.
#include <algorithm>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "app/subprocess.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json inspect(const std::string& path) {
  const Finished finished = run_spate({"inspect", path, "--json"});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  return json::parse(finished.out);
}

TEST(Inspect, Json_HasMetadataTensorsTypesAndTheLoadersVerdict) {
  const json result = inspect(bundled_model_path());
  EXPECT_EQ(result.at("total_bytes"), std::filesystem::file_size(bundled_model_path()));
  EXPECT_EQ(result.at("metadata").at("general.architecture"), "qwen2");
  EXPECT_EQ(result.at("metadata").at("qwen2.block_count"), 8);
  EXPECT_EQ(result.at("metadata").at("qwen2.attention.layer_norm_rms_epsilon"), 1e-6) << "as a float32 is written";
  const json& tokens = result.at("metadata").at("tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.at("array_of"), "string");
  EXPECT_EQ(tokens.at("size"), 16384);
  EXPECT_EQ(tokens.at("values").size(), 8u);
  EXPECT_TRUE(result.at("loader").at("model").at("ok"));
  EXPECT_TRUE(result.at("loader").at("tokenizer").at("ok"));

  int64_t n_tensors = 0, n_bytes = 0, n_bytes_listed = 0;
  for (const json& type : result.at("types")) {
    n_tensors += type.at("tensors").get<int64_t>();
    n_bytes += type.at("bytes").get<int64_t>();
  }
  for (const json& tensor : result.at("tensors")) n_bytes_listed += tensor.at("bytes").get<int64_t>();
  EXPECT_EQ(n_tensors, static_cast<int64_t>(result.at("tensors").size()));
  EXPECT_EQ(n_bytes, n_bytes_listed);
  EXPECT_LT(n_bytes, result.at("total_bytes").get<int64_t>());
  EXPECT_EQ(result.at("tensors").at(1).at("name"), "token_embd.weight");
  EXPECT_EQ(result.at("tensors").at(1).at("dims"), json({512, 16384}));
}

TEST(Inspect, Full_GivesWholeArrays) {
  const Finished finished = run_spate({"inspect", "--json", "--full"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const json tokens = json::parse(finished.out).at("metadata").at("tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.at("values").size(), tokens.at("size").get<size_t>());
}

TEST(Inspect, Memory_SaysWhatTheCpuTakes) {
  const Finished as_json = run_spate({"inspect", "--json", "--memory", "--device", "cpu"});
  ASSERT_EQ(as_json.exit_code, 0) << as_json.err;
  const json memory = json::parse(as_json.out).at("memory");
  const auto kv_tokens = memory.at("kv_tokens").get<int64_t>();
  EXPECT_EQ(memory.at("device"), "CPU");
  EXPECT_GT(memory.at("bytes").at("weights"), 15'000'000);
  EXPECT_EQ(memory.at("bytes").at("KV cache").get<int64_t>() % kv_tokens, 0);
  EXPECT_FALSE(json::parse(run_spate({"inspect", "--json"}).out).contains("memory"));
  const Finished as_text = run_spate({"inspect", "--memory", "--device", "cpu"});
  EXPECT_THAT(as_text.out, HasSubstr("Memory (CPU)\n  weights"));
  EXPECT_EQ(run_spate({"inspect", "--seqs", "2"}).exit_code, 2) << "of use with --memory alone";
}

TEST(Inspect, Text_ShortensArraysAndNamesEveryTensor) {
  const Finished finished = run_spate({"inspect", bundled_model_path()});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("16,384 x string: ["));
  EXPECT_THAT(finished.out, HasSubstr("blk.7.ffn_down.weight"));
  EXPECT_THAT(finished.out, HasSubstr("Sizes by type"));
  EXPECT_THAT(finished.out, HasSubstr("model      would load"));
  EXPECT_LT(finished.out.size(), 20000u);
}

TEST(Inspect, AVocabularyOnlyFile_IsShownWithWhatTheLoaderRefuses) {
  SPATE_REQUIRE_SHARED("vocab/llama-bpe.gguf");
  const json result = inspect(shared_path("vocab/llama-bpe.gguf"));
  EXPECT_TRUE(result.at("tensors").empty());
  EXPECT_TRUE(result.at("loader").at("tokenizer").at("ok"));
  const json& model = result.at("loader").at("model");
  EXPECT_FALSE(model.at("ok"));
  EXPECT_NE(model.at("error"), "");
  EXPECT_THAT(model.at("exit_code").get<int>(), ::testing::AnyOf(4, 5));
}

}  // namespace
}  // namespace spate::testing
