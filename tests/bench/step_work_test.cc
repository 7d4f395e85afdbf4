// What a step must move and multiply, against the sums written out.
#include "bench/step_work.h"

#include <gtest/gtest.h>

#include "bench/bench_case.h"
#include "bench/synth_model.h"

namespace spate::testing {
namespace {

std::shared_ptr<const Model> synth(const std::string& type) {
  const std::string path = ::testing::TempDir() + "step_work_" + type + ".gguf";
  EXPECT_TRUE(write_synth_model({.shape = "tiny", .type = type}, path, nullptr).ok());
  return Model::open(path).value();
}

// Of "tiny": 4 layers of q, o [256, 256], k, v [128, 256], gate, up, down [768, 256]; the head is [1024, 256].
constexpr double kLayerProducts = 4.0 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 768 * 256), kHeadProducts = 1024.0 * 256;
constexpr double kKvBytes = 2 * 2 * 4 * 128;  // float16 keys and values of 4 layers of 128

TEST(ModelWork, DecodeStep_ReadsEveryWeightOnceAndEachSequencesCache) {
  const auto model = synth("q4_k_m");
  const ModelWork work(*model);
  EXPECT_EQ(work.weight_bytes(), static_cast<double>(model->weight_bytes_per_token()));
  EXPECT_EQ(work.kv_bytes_per_token(), kKvBytes);
  const BenchCase c{.test = BenchTest::kDecode, .n_generate = 1, .batch = 3, .depth = 99};
  const Work step = work.of_step(BenchSteps(c, 64, 1024, 1).measured().at(0));
  const double embedding_rows = 3.0 * static_cast<double>(model->token_embedding().row_bytes());
  EXPECT_EQ(step.bytes, work.weight_bytes() + embedding_rows + 3 * 100 * kKvBytes);
  EXPECT_EQ(step.quantised_multiply_adds, 3 * (kLayerProducts + kHeadProducts));
  EXPECT_EQ(step.float_multiply_adds, 0);
}

TEST(ModelWork, PromptStepThatDrawsNothing_LeavesTheHeadAlone) {
  const auto model = synth("q8_0");
  const ModelWork work(*model);
  const BenchCase c{.test = BenchTest::kDecode, .n_generate = 1, .batch = 1, .depth = 64};
  const Work step = work.of_step(BenchSteps(c, 64, 1024, 1).fill().at(0));
  EXPECT_EQ(step.multiply_adds(), 64 * kLayerProducts);
  const double head_bytes = 1024.0 * static_cast<double>(model->output().row_bytes());
  EXPECT_EQ(step.bytes,
            work.weight_bytes() - head_bytes + 64.0 * static_cast<double>(model->output().row_bytes()) + 64 * kKvBytes);
}

TEST(ModelWork, FloatWeights_CountAsFloatMultiplyAdds) {
  const auto model = synth("f16");
  const BenchCase c{.test = BenchTest::kDecode, .n_generate = 1};
  const Work step = ModelWork(*model).of_step(BenchSteps(c, 64, 1024, 1).measured().at(0));
  EXPECT_EQ(step.quantised_multiply_adds, 0);
  EXPECT_EQ(step.float_multiply_adds, kLayerProducts + kHeadProducts);
  const DevicePeaks peaks{
      .read_bytes_per_s = 2 * step.bytes, .quantised_multiply_adds_per_s = 1, .float_multiply_adds_per_s = 1e9};
  EXPECT_DOUBLE_EQ(read_share(step, 0.5, peaks), 1);
  EXPECT_DOUBLE_EQ(math_share(step, 1e-3, peaks), step.float_multiply_adds / 1e6);
}

}  // namespace
}  // namespace spate::testing
