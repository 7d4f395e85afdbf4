// Perplexity: the CPU executor against the float32 reference on the same file, and both against published figures
// (shared/golden/demo/README.md).
#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_executor.h"
#include "backend/isas_here.h"
#include "backend/reference/reference_executor.h"
#include "base/file.h"
#include "text/tokenizer.h"

#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

constexpr int kContext = 512;
constexpr ExecutorLimits kLimits{.max_seqs = 1, .max_step_tokens = kContext, .n_pages = kContext / kPageTokens};

std::shared_ptr<const Model> open_model(const std::string& path) {
  Result<std::shared_ptr<const Model>> model = Model::open(path);
  EXPECT_TRUE(model.ok()) << model.error().message;
  return model.ok() ? *model : nullptr;
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

std::unique_ptr<Executor> cpu_executor(std::shared_ptr<const Model> model, Isa isa) {
  auto executor = make_cpu_executor(model, {.limits = kLimits, .n_threads = 2, .isa = isa});
  EXPECT_TRUE(executor.ok());
  return executor.ok() ? std::move(*executor) : nullptr;
}

TEST(Perplexity, CpuEveryStepSizeAndIsa_WithinTwoPerMilleOfReference) {
  SPATE_REQUIRE_SHARED("text/willows.txt");
  const auto model = open_model(bundled_model_path());
  const std::vector<int32_t> tokens = tokens_of(*model, shared_path("text/willows.txt"));
  constexpr int kChunks = 4;
  auto reference = make_reference_executor(model, kLimits, 2);
  ASSERT_TRUE(reference.ok());
  const double expected = perplexity(**reference, tokens, kContext, kContext, kChunks);
  for (Isa isa : isas_here()) {
    const auto executor = cpu_executor(model, isa);
    for (int step_tokens : {1, 4, 16, 64, 512}) {
      if (isa == Isa::kPortable && step_tokens < 64)
        continue;  // slow, and its bits do not depend on the step (golden_test.cc)
      const double actual = perplexity(*executor, tokens, kContext, step_tokens, kChunks);
      std::printf("%s, %d tokens a step: %.4f, reference %.4f (%+.3f%%)\n", std::string(isa_name(isa)).c_str(),
                  step_tokens, actual, expected, (actual / expected - 1) * 100);
      EXPECT_LT(std::abs(actual / expected - 1), 0.002);
    }
  }
}

struct Published {
  const char* model;
  const char* text;
  size_t n_tokens;
  double perplexity;
};

class PublishedPerplexity : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedPerplexity, BestIsa_WithinFivePerMille) {
  const Published& published = GetParam();
  SPATE_REQUIRE_SHARED(published.model);
  SPATE_REQUIRE_SHARED(published.text);
  const auto model = open_model(shared_path(published.model));
  const std::vector<int32_t> tokens = tokens_of(*model, shared_path(published.text));
  EXPECT_EQ(tokens.size(), published.n_tokens);
  const auto executor = cpu_executor(model, best_isa());
  const double actual = perplexity(*executor, tokens, kContext, kContext, 1 << 30);
  std::printf("%s, %s: %.4f, published %.4f (%+.3f%%)\n", published.model, published.text, actual, published.perplexity,
              (actual / published.perplexity - 1) * 100);
  EXPECT_LT(std::abs(actual / published.perplexity - 1), 0.005);
}

INSTANTIATE_TEST_SUITE_P(
    Demo, PublishedPerplexity,
    ::testing::Values(Published{"models/classics-33m-Q4_K_M.gguf", "text/willows.txt", 83369, 70.9849},
                      Published{"models/classics-33m-Q4_K_M.gguf", "text/alice.txt", 39460, 73.5176},
                      Published{"models/classics-33m-f16.gguf", "text/willows.txt", 83369, 72.8494},
                      Published{"models/classics-33m-f16.gguf", "text/alice.txt", 39460, 76.2173}),
    [](const auto& test) {
      const std::string model = std::string(test.param.model).find("f16") == std::string::npos ? "Q4_K_M" : "F16";
      return model + (std::string(test.param.text).find("alice") == std::string::npos ? "_willows" : "_alice");
    });

}  // namespace
}  // namespace spate::testing
