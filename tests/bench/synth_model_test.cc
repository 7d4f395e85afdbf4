// Models of random weights: their layout against that of another generator, and that every type runs.
#include "bench/synth_model.h"

#include <cmath>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>

#include "backend/cpu/cpu_executor.h"
#include "base/file.h"
#include "quant/mix.h"
#include "text/tokenizer.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// {"blk.N.attn_v.weight": {"dims": [256, 128], "types": {"Q4_K": [0, 1], "Q6_K": [2, 3]}}, ...}
json layout_of(const std::vector<SynthTensor>& tensors, int n_layers) {
  json layout = json::object();
  for (const SynthTensor& tensor : tensors) {
    std::string name = tensor.name;
    json layer = nullptr;
    if (name.starts_with("blk.")) {
      const size_t dot = name.find('.', 4);
      layer = std::stoi(name.substr(4, dot - 4));
      name = "blk.N" + name.substr(dot);
    }
    json& entry = layout[name];
    entry["dims"] = tensor.dims;
    entry["types"][std::string(quant_name(tensor.type))].push_back(layer);
  }
  for (json& entry : layout)
    for (json& layers : entry["types"])
      if (layers[0].is_null() || layers.size() == static_cast<size_t>(n_layers)) layers = "all";
  return layout;
}

TEST(SynthModel, Layouts_AreThoseOfTheGeneratorThatPeersAreMeasuredWith) {
  const json expected = json::parse(read_file(fixture_path("synth/layouts.json")).value());
  ASSERT_GE(expected.size(), 30u);
  for (const auto& [key, layout] : expected.items()) {
    const size_t space = key.find(' ');
    const SynthOptions options{.shape = key.substr(0, space), .type = key.substr(space + 1)};
    int n_layers = 0;
    for (const SynthShape& shape : synth_shapes())
      if (shape.name == options.shape) n_layers = shape.n_layers;
    const auto tensors = synth_tensors(options);
    ASSERT_TRUE(tensors.ok()) << key;
    EXPECT_EQ(layout_of(*tensors, n_layers), layout) << key;
  }
}

TEST(SynthModel, RowsThat256DoesNotDivide_FallBack) {
  const auto tensors = synth_tensors({.shape = "qwen2.5-0.5b", .type = "Q4_K_M"});
  ASSERT_TRUE(tensors.ok());
  std::map<std::string, QuantType> types;
  for (const SynthTensor& tensor : *tensors) {
    types[tensor.name] = tensor.type;
    EXPECT_EQ(tensor.dims[0] % quant_traits(tensor.type).block_elems, 0) << tensor.name;
  }
  EXPECT_EQ(types.at("token_embd.weight"), QuantType::kQ8_0);
  EXPECT_EQ(types.at("blk.0.attn_q.weight"), QuantType::kQ5_0);
  EXPECT_EQ(types.at("blk.0.ffn_down.weight"), QuantType::kQ6_K) << "4864 columns are 19 x 256";
}

// One token through the CPU executor; its log-probability, or what went wrong.
Result<float> run_a_token(const std::string& path) {
  SPATE_TRY(const std::shared_ptr<const Model> model, Model::open(path));
  SPATE_TRY(Vocab vocab, Vocab::from_gguf(model->file()));
  SPATE_TRY(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::create(std::move(vocab)));
  const auto ids = tokenizer->encode("hi");
  if (ids.size() != 2) return Error::backend(fmt::format("{} tokens for 2 bytes", ids.size()));
  SPATE_TRY(
      const std::unique_ptr<Executor> executor,
      make_cpu_executor(model, {.limits = {.max_seqs = 1, .max_step_tokens = 4, .n_pages = 1}, .isa = best_isa()}));
  StepBatch batch;
  batch.tokens = {ids[0], ids[1]};
  batch.from_row = {-1, -1};
  batch.slot_ops = {{.slot = 0}};
  batch.slot = {0};
  batch.q_start = {0, 2};
  batch.kv_len = {2};
  batch.groups = {{.start = {0, 1}, .pages = {0}}};
  batch.rows = {{.token_index = 1, .slot = 0}};
  SPATE_TRY(const StepOutput output, executor->wait(executor->enqueue(batch)));
  return output.rows.at(0).logprob;
}

TEST(SynthModel, EveryTypeAndMix_LoadsAndRunsAToken) {
  std::vector<std::string> names;
  for (const Mix& mix : all_mixes()) names.emplace_back(mix.name);
  for (const QuantType type : all_quant_types()) names.emplace_back(quant_name(type));
  const TemporaryFolder folder;
  const std::string path = folder.path("types.gguf");
  for (const std::string& name : names) {
    ASSERT_TRUE(write_synth_model({.shape = "tiny", .type = name, .n_layers = 2}, path, nullptr).ok()) << name;
    const Result<float> logprob = run_a_token(path);
    ASSERT_TRUE(logprob.ok()) << name << ": " << logprob.error().message;
    EXPECT_TRUE(std::isfinite(*logprob)) << name;
    EXPECT_LE(*logprob, 0) << name;
  }
}

TEST(SynthModel, EveryArchitecture_LoadsAndRunsAToken) {
  const TemporaryFolder folder;
  const std::string path = folder.path("architectures.gguf");
  for (const char* shape : {"tiny", "tiny-llama", "tiny-odd"}) {
    const auto report = write_synth_model({.shape = shape, .type = "q4_k_m"}, path, nullptr);
    ASSERT_TRUE(report.ok()) << shape;
    EXPECT_EQ(static_cast<size_t>(report->n_tensors), synth_tensors({.shape = shape, .type = "q4_k_m"})->size());
    EXPECT_LT(report->tensor_bytes, std::filesystem::file_size(path));
    const Result<float> logprob = run_a_token(path);
    ASSERT_TRUE(logprob.ok()) << shape << ": " << logprob.error().message;
  }
}

TEST(SynthModel, Seed_DecidesEveryByte) {
  const TemporaryFolder folder;
  const auto bytes_for = [&](uint64_t seed) {
    const std::string path = folder.path("seed.gguf");
    EXPECT_TRUE(write_synth_model({.shape = "TINY", .type = "q4_k_m", .seed = seed}, path, nullptr).ok());
    return read_file(path).value();
  };
  const std::string one = bytes_for(1);
  EXPECT_TRUE(one == bytes_for(1));
  EXPECT_FALSE(one == bytes_for(2));
}

TEST(SynthModel, UnknownNames_AreRefusedWithWhatThereIs) {
  const auto shape = synth_tensors({.shape = "gpt-5", .type = "q4_0"});
  ASSERT_FALSE(shape.ok());
  EXPECT_EQ(shape.error().code, ErrorCode::kUsage);
  EXPECT_THAT(shape.error().message, HasSubstr("'gpt-5'"));
  EXPECT_THAT(shape.error().message, HasSubstr("llama-3.1-70b"));
  const auto type = synth_tensors({.shape = "tiny", .type = "q9"});
  ASSERT_FALSE(type.ok());
  EXPECT_EQ(type.error().code, ErrorCode::kUsage);
  EXPECT_THAT(type.error().message, HasSubstr("Q4_K_M"));
}

TEST(SynthModel, StoppedOrUnwritable_LeavesNothingBehind) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path("");
  const auto stopped = write_synth_model({.shape = "tiny", .type = "f32"}, folder + "/stopped.gguf",
                                         [](double fraction) { return fraction < 0.5; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kInterrupted);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  const auto unwritable = write_synth_model({.shape = "tiny", .type = "f32"}, folder + "/no/such.gguf", nullptr);
  ASSERT_FALSE(unwritable.ok());
  EXPECT_EQ(unwritable.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace spate::testing
