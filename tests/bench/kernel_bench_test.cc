// The timing of single products: that each combination is timed, and what is counted.
#include "bench/kernel_bench.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::testing {
namespace {

TEST(KernelBench, EveryCombinationThatFits_IsTimedOnce) {
  std::vector<std::string> seen;
  const KernelBenchOptions options{.isas = {Isa::kPortable},
                                   .types = {QuantType::kQ4_K, QuantType::kQ8_0},
                                   .shapes = {{.n_rows = 100, .n_cols = 256}, {.n_rows = 100, .n_cols = 32}},
                                   .tokens = {1, 3},
                                   .n_threads = 1,
                                   .repeat = 2,
                                   .pass_bytes = 1 << 20};
  const auto done = time_cpu_kernels(options, [&](const KernelTiming& timing) {
    EXPECT_EQ(timing.seconds.size(), 2u);
    for (const double seconds : timing.seconds) EXPECT_GT(seconds, 0);
    const double n_weights = timing.weight_bytes / static_cast<double>(quant_bytes(timing.type, 256)) * 256;
    EXPECT_DOUBLE_EQ(timing.multiply_adds, n_weights * timing.n_tokens);
    EXPECT_NEAR(timing.weight_bytes, 1 << 20, static_cast<double>(quant_bytes(timing.type, 100 * timing.shape.n_cols)));
    seen.push_back(fmt::format("{} {} {}", quant_name(timing.type), timing.shape.n_cols, timing.n_tokens));
    return true;
  });
  ASSERT_TRUE(done.ok());
  EXPECT_THAT(seen,
              ::testing::ElementsAre("Q4_K 256 1", "Q4_K 256 3", "Q8_0 256 1", "Q8_0 256 3", "Q8_0 32 1", "Q8_0 32 3"));
}

TEST(KernelBench, Stopped_IsInterrupted) {
  int n_seen = 0;
  const auto done = time_cpu_kernels({.isas = {Isa::kPortable},
                                      .types = {QuantType::kQ4_0},
                                      .shapes = {{.n_rows = 64, .n_cols = 512}},
                                      .tokens = {1, 2, 4},
                                      .repeat = 1,
                                      .pass_bytes = 1 << 20},
                                     [&](const KernelTiming&) { return ++n_seen < 2; });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, ErrorCode::kInterrupted);
  EXPECT_EQ(n_seen, 2);
}

}  // namespace
}  // namespace spate::testing
