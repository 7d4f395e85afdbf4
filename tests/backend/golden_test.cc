// Whole models through the executors: the demo model's golden values, teacher-forced, at every step size that picks
// another kernel.
#include "support/golden.h"

#include <cstdio>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_executor.h"
#include "backend/cpu/linear_tiles.h"
#include "backend/isas_here.h"
#include "backend/reference/reference_executor.h"

#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

constexpr int kStepSizes[] = {1, 4, 16, 64, 512};
constexpr ExecutorLimits kLimits{.max_seqs = 4, .max_step_tokens = 512, .n_pages = 64};

std::shared_ptr<const Model> open_model(const std::string& path) {
  Result<std::shared_ptr<const Model>> model = Model::open(path);
  EXPECT_TRUE(model.ok()) << model.error().message;
  return model.ok() ? *model : nullptr;
}

std::unique_ptr<Executor> cpu_executor(std::shared_ptr<const Model> model, const CpuExecutorOptions& options) {
  auto executor = make_cpu_executor(model, options);
  EXPECT_TRUE(executor.ok()) << executor.error().message;
  return executor.ok() ? std::move(*executor) : nullptr;
}

std::unique_ptr<Executor> reference_executor(std::shared_ptr<const Model> model) {
  auto executor = make_reference_executor(model, kLimits, 2);
  EXPECT_TRUE(executor.ok()) << executor.error().message;
  return executor.ok() ? std::move(*executor) : nullptr;
}

void print(const char* what, int step_tokens, const GoldenComparison& c) {
  std::printf(
      "%s, %d tokens a step: %d of %d arg-max differ, log-probabilities within %.5f, top-16 logits within %.5f\n", what,
      step_tokens, c.n_differ, c.n_compared, c.worst_logprob, c.worst_top16);
}

TEST(Golden, Reference_BundledModel_EqualsIndependentFloat32) {
  const auto model = open_model(bundled_model_path());
  const auto executor = reference_executor(model);
  const std::vector<GoldenPrompt> prompts = load_golden("golden-q4_k_m.json");
  for (int step_tokens : {1, 7, 512}) {
    const GoldenComparison c = compare_golden(*executor, prompts, 0.03f, step_tokens, 2);
    print("reference, Q4_K_M", step_tokens, c);
    EXPECT_GT(c.n_compared, 300);  // of 336
    EXPECT_EQ(c.n_differ, 0);
    EXPECT_LT(c.worst_logprob, 1e-3);
    EXPECT_LT(c.worst_top16, 1e-3);
  }
}

TEST(Golden, Reference_F16Model_EqualsTransformers) {
  SPATE_REQUIRE_SHARED("models/classics-33m-f16.gguf");
  const auto executor = reference_executor(open_model(shared_path("models/classics-33m-f16.gguf")));
  const GoldenComparison c = compare_golden(*executor, load_golden("golden.json"), 0.03f, 512, 2);
  print("reference, F16", 512, c);
  EXPECT_GT(c.n_compared, 400);  // of 448
  EXPECT_EQ(c.n_differ, 0);
  EXPECT_LT(c.worst_logprob, 1e-3);
  EXPECT_LT(c.worst_top16, 1e-3);
}

class GoldenCpu : public ::testing::TestWithParam<Isa> {};

TEST_P(GoldenCpu, BundledModel_EveryStepSizeOneAndTwoInFlight_ArgMaxAsGolden) {
  const auto executor =
      cpu_executor(open_model(bundled_model_path()), {.limits = kLimits, .n_threads = 2, .isa = GetParam()});
  const std::vector<GoldenPrompt> prompts = load_golden("golden-q4_k_m.json");
  for (int step_tokens : kStepSizes)
    for (int in_flight : {1, 2}) {
      if (GetParam() == Isa::kPortable && step_tokens % 64 != 0) continue;  // slow
      const GoldenComparison c = compare_golden(*executor, prompts, 0.15f, step_tokens, in_flight);
      print("CPU, Q4_K_M", step_tokens, c);
      EXPECT_GT(c.n_compared, 300);  // of 336
      EXPECT_EQ(c.n_differ, 0);
      EXPECT_LT(c.worst_logprob, 0.25);  // int8 activations: 0.11 and 0.20 were seen
      EXPECT_LT(c.worst_top16, 0.4);
    }
}

TEST_P(GoldenCpu, F16Model_EveryStepSize_ArgMaxAsGolden) {
  SPATE_REQUIRE_SHARED("models/classics-33m-f16.gguf");
  const auto executor = cpu_executor(open_model(shared_path("models/classics-33m-f16.gguf")),
                                     {.limits = kLimits, .n_threads = 2, .isa = GetParam()});
  const std::vector<GoldenPrompt> prompts = load_golden("golden.json");
  for (int step_tokens : kStepSizes) {
    if (GetParam() == Isa::kPortable && step_tokens % 64 != 0) continue;  // slow
    // Tiles round weights and activations to bfloat16.
    const bool tiles = GetParam() == Isa::kAmx && step_tokens >= cpu::kTileMinTokens;
    const GoldenComparison c = compare_golden(*executor, prompts, tiles ? 0.15f : 0.03f, step_tokens, 2);
    print("CPU, F16", step_tokens, c);
    EXPECT_GT(c.n_compared, tiles ? 370 : 400);  // of 448
    EXPECT_EQ(c.n_differ, 0);
    EXPECT_LT(c.worst_logprob, tiles ? 0.1 : 0.01);
    EXPECT_LT(c.worst_top16, tiles ? 0.15 : 0.01);
  }
}

// Step sizes, threads, and where the weights lie change no bit of any log-probability, but for tiles.
TEST_P(GoldenCpu, StepSizeThreadsAndRepacking_ChangeNoBit) {
  const auto model = open_model(bundled_model_path());
  const auto executor = cpu_executor(model, {.limits = kLimits, .n_threads = 2, .isa = GetParam(), .tiles = false});
  const auto alone = cpu_executor(model, {.limits = kLimits, .n_threads = 1, .isa = GetParam(), .tiles = false});
  const auto borrowed =
      cpu_executor(model, {.limits = kLimits, .n_threads = 3, .isa = GetParam(), .repack = false, .tiles = false});
  const GoldenPrompt golden = load_golden("golden-q4_k_m.json")[0];
  std::vector<int32_t> tokens = golden.ids;
  tokens.insert(tokens.end(), golden.greedy_ids.begin(), golden.greedy_ids.end());
  const Scored expected = score_tokens(*executor, tokens, {.step_tokens = 512});
  for (int step_tokens : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33}) {
    EXPECT_EQ(score_tokens(*executor, tokens, {.step_tokens = step_tokens}).next_logprob, expected.next_logprob)
        << step_tokens;
    EXPECT_EQ(score_tokens(*alone, tokens, {.step_tokens = step_tokens}).next_logprob, expected.next_logprob)
        << step_tokens;
  }
  for (int step_tokens : {1, 8, 512})
    EXPECT_EQ(score_tokens(*borrowed, tokens, {.step_tokens = step_tokens}).next_logprob, expected.next_logprob)
        << step_tokens;
}

TEST_P(GoldenCpu, VectorInstructionSets_AgreeBitForBit) {
  if (GetParam() == Isa::kPortable) return;  // rounds fma twice
  const auto model = open_model(bundled_model_path());
  const std::vector<GoldenPrompt> prompts = load_golden("golden-q4_k_m.json");
  const auto executor = cpu_executor(model, {.limits = kLimits, .n_threads = 2, .isa = GetParam(), .tiles = false});
  const auto avx2 = cpu_executor(model, {.limits = kLimits, .n_threads = 2, .isa = Isa::kAvx2});
  for (const GoldenPrompt& golden : prompts)
    EXPECT_EQ(score_tokens(*executor, golden.ids).next_logprob, score_tokens(*avx2, golden.ids).next_logprob);
}

std::string isa_suffix(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}
INSTANTIATE_TEST_SUITE_P(EveryIsa, GoldenCpu, ::testing::ValuesIn(isas_here()), isa_suffix);

}  // namespace
}  // namespace spate::testing
