#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <string>

#include "backend/cpu/linear.h"

#include "linear_isas.h"
#include "linear_test_data.h"

namespace spate::cpu {
namespace {

class LinearActivations : public ::testing::TestWithParam<Isa> {
 protected:
  // Of one token of 32 columns.
  ActivationBlock quantize(const std::vector<float>& x) {
    ActivationBuffer buffer(1, kActivationBlock, kNoTiles);
    return *buffer.fill(pool_, GetParam(), x.data(), 1, kActivationBlock, true).blocks;
  }
  ThreadPool pool_{3};
};

TEST_P(LinearActivations, Blocks_FollowTheDefinition) {
  for (int n_tokens : {1, 3, 40}) {
    constexpr int kCols = 1792;
    const std::vector<float> x = random_activations(n_tokens, kCols, 11);
    ActivationBuffer buffer(n_tokens, kCols, kNoTiles);
    const Activations a = buffer.fill(pool_, GetParam(), x.data(), n_tokens, kCols, true);
    EXPECT_EQ(a.x, x.data());
    for (int t = 0; t < n_tokens; ++t)
      for (int b = 0; b < kCols / kActivationBlock; ++b) {
        const ActivationBlock& block = a.blocks[b * n_tokens + t];
        const float* in = &x[t * kCols + b * kActivationBlock];
        float amax = 0;
        for (int i = 0; i < kActivationBlock; ++i) amax = std::max(amax, std::abs(in[i]));
        const float inverse = 127.0f / amax;
        int sum = 0, leading = 0;
        for (int i = 0; i < kActivationBlock; ++i) {
          ASSERT_EQ(block.q[i], static_cast<int>(std::nearbyint(in[i] * inverse))) << "token " << t << " block " << b;
          sum += block.q[i];
          if (i < 16) leading += block.q[i];
        }
        ASSERT_EQ(block.scale, amax / 127.0f);
        ASSERT_EQ(block.sum, sum);
        ASSERT_EQ(block.half_sums[0], leading);
        ASSERT_EQ(block.half_sums[1], sum - leading);
        ASSERT_EQ(block.scaled_sum, block.scale * static_cast<float>(sum));
      }
  }
}

TEST_P(LinearActivations, Ties_RoundToEven) {
  std::vector<float> x(kActivationBlock, 0.0f);
  const float halves[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -127};
  std::copy(std::begin(halves), std::end(halves), x.begin());
  const ActivationBlock block = quantize(x);
  const int expected[] = {127, 0, 2, 2, 0, -2, -2, 126, -127};
  for (int i = 0; i < 9; ++i) EXPECT_EQ(block.q[i], expected[i]) << x[i];
}

TEST_P(LinearActivations, Zeros_HaveScaleZero) {
  for (float tiny : {0.0f, -0.0f, 1e-40f, 1e-31f}) {
    const ActivationBlock block = quantize(std::vector<float>(kActivationBlock, tiny));
    EXPECT_EQ(block.scale, 0.0f);
    EXPECT_EQ(block.sum, 0);
    for (int8_t q : block.q) EXPECT_EQ(q, 0);
  }
}

TEST_P(LinearActivations, HugeFiniteValues_StayFinite) {
  std::vector<float> x(kActivationBlock, -std::numeric_limits<float>::max());
  x[3] = 1;
  const ActivationBlock block = quantize(x);
  EXPECT_TRUE(std::isfinite(block.scale));
  EXPECT_EQ(block.q[0], -127);
  EXPECT_EQ(block.q[3], 0);
}

class LinearBadActivations : public ::testing::TestWithParam<testing::LinearTier> {
 protected:
  ThreadPool pool_{3};
};

TEST_P(LinearBadActivations, NanOrInfinity_ShowsInEveryResultItTouches_AndInNoOther) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0x7fffffff),
                    std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = random_activations(18, 64, 3);
    x[5 * 64 + 33] = bad;
    const std::vector<std::byte> w = random_weights(QuantType::kQ4_1, 17, 64, 4);
    const PackedMatrix weight = PackedMatrix::pack(QuantType::kQ4_1, w.data(), 17, 64, pool_);
    ActivationBuffer buffer(18, 64, GetParam().tile_min_tokens());
    std::vector<float> y(18 * 17);
    const LinearJob job{.weight = &weight,
                        .input = buffer.fill(pool_, GetParam().isa, x.data(), 18, 64, true),
                        .y = y.data(),
                        .y_stride = 17};
    run_linear(pool_, GetParam().isa, {&job, 1});
    for (int t = 0; t < 18; ++t)
      for (int r = 0; r < 17; ++r) EXPECT_EQ(!std::isfinite(y[t * 17 + r]), t == 5) << "token " << t << " row " << r;
  }
}

TEST_P(LinearActivations, WithoutInt8_AreTheFloatsThemselves) {
  const std::vector<float> x = random_activations(2, 33, 3);
  ActivationBuffer buffer(2, 33);
  const Activations a = buffer.fill(pool_, GetParam(), x.data(), 2, 33, false);
  EXPECT_EQ(a.x, x.data());
  EXPECT_EQ(a.blocks, nullptr);
  EXPECT_EQ(a.n_cols, 33);
}

INSTANTIATE_TEST_SUITE_P(Tiers, LinearBadActivations, ::testing::ValuesIn(testing::runnable_tiers()),
                         [](const auto& tested) { return tested.param.name(); });
INSTANTIATE_TEST_SUITE_P(Isas, LinearActivations, ::testing::ValuesIn(testing::runnable_isas()),
                         [](const auto& tested) { return std::string(isa_name(tested.param)); });

}  // namespace
}  // namespace spate::cpu
