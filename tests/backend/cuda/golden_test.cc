// Whole models on the GPU: the demo model's golden values, teacher-forced, and its perplexity, at every step size that
// picks another kernel (design.md, "Numbers that must hold").
#include "support/golden.h"

#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_executor.h"
#include "backend/reference/reference_executor.h"
#include "base/file.h"
#include "text/tokenizer.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::bundled_model_path;
using spate::testing::GoldenComparison;
using spate::testing::has_shared;
using spate::testing::perplexity;
using spate::testing::score_tokens;
using spate::testing::Scored;
using spate::testing::shared_path;
using spate::testing::source_path;

constexpr int kStepSizes[] = {1, 4, 16, 64, 512};
constexpr int kContext = 512;
constexpr ExecutorLimits kLimits{.max_seqs = 4, .max_step_tokens = 512, .n_pages = 64};

struct GoldenBounds {
  float margin;
  int min_compared;
  double logprob, top16;
};

void expect_golden(CudaExecutor& executor, const char* golden, int step_tokens, const GoldenBounds& bounds) {
  const GoldenComparison c =
      compare_golden(executor, spate::testing::load_golden(golden), bounds.margin, step_tokens, 2);
  std::printf(
      "%s, %d tokens a step: %d of %d arg-max differ, log-probabilities within %.5f, top-16 logits within %.5f\n",
      golden, step_tokens, c.n_differ, c.n_compared, c.worst_logprob, c.worst_top16);
  EXPECT_GT(c.n_compared, bounds.min_compared);
  EXPECT_EQ(c.n_differ, 0);
  EXPECT_LT(c.worst_logprob, bounds.logprob);
  EXPECT_LT(c.worst_top16, bounds.top16);
}

// With float16 activations throughout: a step's last chunk may be a single token.
void expect_float16_golden(const std::string& model_path, const char* golden, int min_compared) {
  const auto executor = make_executor(open_model(model_path), kLimits,
                                      [](CudaExecutorOptions& options) { options.profile.stream_int8_tokens = 0; });
  ASSERT_NE(executor, nullptr);
  for (int step_tokens : kStepSizes) expect_golden(*executor, golden, step_tokens, {0.03f, min_compared, 0.05, 0.05});
}

TEST(CudaGolden, BundledModel_EveryStepSize_ArgMaxAsGolden) {
  SPATE_REQUIRE_GPU();
  expect_float16_golden(bundled_model_path(), "golden-q4_k_m.json", 300);  // of 336
}

// Single tokens take int8 activations where the device has bulk copies, as all do on the CPU, whose bounds these are.
TEST(CudaGolden, BundledModel_SingleTokens_ArgMaxAsGolden) {
  SPATE_REQUIRE_GPU();
  const auto executor = make_executor(open_model(bundled_model_path()), kLimits);
  ASSERT_NE(executor, nullptr);
  expect_golden(*executor, "golden-q4_k_m.json", 1, {0.15f, 300, 0.25, 0.4});  // of 336
}

// The two backends round differently, the CPU's int8 activations the more: they may disagree about near-ties alone.
TEST(CudaGolden, BundledModel_AgreesWithTheCpu) {
  SPATE_REQUIRE_GPU();
  const auto model = open_model(bundled_model_path());
  const auto gpu = make_executor(model, kLimits);
  ASSERT_NE(gpu, nullptr);
  auto cpu = make_cpu_executor(model, {.limits = kLimits, .n_threads = 4, .isa = best_isa()});
  ASSERT_TRUE(cpu.ok()) << cpu.error().message;
  int n_compared = 0, n_differ = 0;
  for (const auto& golden : spate::testing::load_golden("golden-q4_k_m.json")) {
    std::vector<int32_t> tokens = golden.ids;
    tokens.insert(tokens.end(), golden.greedy_ids.begin(), golden.greedy_ids.end());
    const Scored on_gpu = score_tokens(*gpu, tokens, {.step_tokens = 1, .n_logprobs = 2});
    const Scored on_cpu = score_tokens(**cpu, tokens);
    ASSERT_EQ(on_gpu.best.size(), on_cpu.best.size());
    for (size_t i = 0; i < on_gpu.best.size(); ++i) {
      if (on_gpu.top[i][0].logprob - on_gpu.top[i][1].logprob <= 0.15f) continue;
      ++n_compared;
      n_differ += on_gpu.best[i] != on_cpu.best[i];
    }
  }
  std::printf("GPU against CPU: %d of %d arg-max differ\n", n_differ, n_compared);
  EXPECT_GT(n_compared, 300);
  EXPECT_EQ(n_differ, 0);
}

TEST(CudaGolden, F16Model_EveryStepSize_ArgMaxAsGolden) {
  SPATE_REQUIRE_GPU();
  SPATE_REQUIRE_SHARED("models/classics-33m-f16.gguf");
  expect_float16_golden(shared_path("models/classics-33m-f16.gguf"), "golden.json", 400);  // of 448
}

std::vector<int32_t> tokens_of(const Model& model, const std::string& text_path) {
  const Result<std::string> text = read_file(text_path);
  EXPECT_TRUE(text.ok());
  Result<Vocab> vocab = Vocab::from_gguf(model.file());
  EXPECT_TRUE(vocab.ok());
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(*vocab));
  EXPECT_TRUE(tokenizer.ok());
  return (*tokenizer)->encode(*text, {.parse_special = true, .add_special = false});
}

// For comparisons on the same tokens any text will do: the published one, or where it is absent this project's own
// prose.
std::string prose_path() {
  return has_shared("text/willows.txt") ? shared_path("text/willows.txt") : source_path("docs/architecture.md");
}

TEST(CudaPerplexity, BundledModelEveryStepSize_WithinTwoPerMilleOfReference) {
  SPATE_REQUIRE_GPU();
  const auto model = open_model(bundled_model_path());
  ASSERT_NE(model, nullptr);
  const std::vector<int32_t> tokens = tokens_of(*model, prose_path());
  constexpr int kChunks = 4;
  auto reference = make_reference_executor(model, kLimits, 4);
  ASSERT_TRUE(reference.ok());
  const double expected = perplexity(**reference, tokens, kContext, kContext, kChunks);
  const auto executor = make_executor(model, kLimits);
  ASSERT_NE(executor, nullptr);
  for (int step_tokens : kStepSizes) {
    const double actual = perplexity(*executor, tokens, kContext, step_tokens, kChunks);
    std::printf("%d tokens a step: %.4f, reference %.4f (%+.3f%%)\n", step_tokens, actual, expected,
                (actual / expected - 1) * 100);
    EXPECT_LT(std::abs(actual / expected - 1), 0.002);
  }
}

// What FP8 costs is measured, and may not be what a bug costs. Its products have 2^-4 of rounding in each operand, 16
// times that of a Q8_0 weight; over a model the signs of these mostly cancel.
TEST(CudaPerplexity, PrefillInFp8_CostsLittle) {
  SPATE_REQUIRE_GPU();
  const auto model = open_model(bundled_model_path());
  ASSERT_NE(model, nullptr);
  const std::vector<int32_t> tokens = tokens_of(*model, prose_path());
  constexpr int kChunks = 16;
  const auto measured = [&](std::string_view precision) {
    Result<void> set;
    const auto executor = make_executor(
        model, kLimits, [&](CudaExecutorOptions& o) { set = o.profile.set_prefill_precision(precision); });
    EXPECT_TRUE(set.ok()) << set.error().message;
    return executor == nullptr ? 0.0 : perplexity(*executor, tokens, kContext, kContext, kChunks);
  };
  if (Result<DeviceProfile> profile = probe_device(0); !profile->set_prefill_precision("fp8"))
    GTEST_SKIP() << profile->name << " has no FP8";
  const double f16 = measured("f16"), fp8 = measured("fp8");
  std::printf("prefill in fp8, %d tokens a step: %.4f, in f16 %.4f (%+.3f%%)\n", kContext, fp8, f16,
              (fp8 / f16 - 1) * 100);
  EXPECT_NE(fp8, f16) << "nothing ran in FP8";
  EXPECT_LT(std::abs(fp8 / f16 - 1), 0.03);
}

TEST(CudaPerplexity, PublishedFigures_WithinFivePerMille) {
  SPATE_REQUIRE_GPU();
  struct Published {
    const char* model;
    const char* text;
    double perplexity;
  };
  for (const Published& published : {Published{"models/classics-33m-Q4_K_M.gguf", "text/willows.txt", 70.9849},
                                     Published{"models/classics-33m-f16.gguf", "text/willows.txt", 72.8494}}) {
    SPATE_REQUIRE_SHARED(published.model);
    SPATE_REQUIRE_SHARED(published.text);
    const auto model = open_model(shared_path(published.model));
    const auto executor = make_executor(model, kLimits);
    ASSERT_NE(executor, nullptr);
    const std::vector<int32_t> tokens = tokens_of(*model, shared_path(published.text));
    const double actual = perplexity(*executor, tokens, kContext, kContext, 1 << 30);
    std::printf("%s, %s: %.4f, published %.4f (%+.3f%%)\n", published.model, published.text, actual,
                published.perplexity, (actual / published.perplexity - 1) * 100);
    EXPECT_LT(std::abs(actual / published.perplexity - 1), 0.005);
  }
}

}  // namespace
}  // namespace spate::cuda::testing
