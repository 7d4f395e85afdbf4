// Rotary frequencies and their scalings, against the formulas worked out by hand.
#include <cmath>
#include <gtest/gtest.h>

#include "model/model.h"

#include "support/random_model.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

TEST(Rope, Unscaled_FallsByPowersOfTheBase) {
  const RopeSpec rope{.rotary_dim = 8, .base = 10000};
  const std::vector<float> expected = {1, 0.1f, 0.01f, 0.001f};
  ASSERT_EQ(rope.frequencies().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_FLOAT_EQ(rope.frequencies()[i], expected[i]);
}

TEST(Rope, LinearScaling_DividesEveryFrequency) {
  const RopeSpec rope{.rotary_dim = 4, .base = 10000, .frequency_scale = 0.25f};
  EXPECT_FLOAT_EQ(rope.frequencies()[0], 0.25f);
  EXPECT_FLOAT_EQ(rope.frequencies()[1], 0.0025f);
}

TEST(Rope, Divisors_DividePairByPair) {
  const RopeSpec rope{.rotary_dim = 4, .base = 10000, .frequency_divisors = {1, 8}};
  EXPECT_FLOAT_EQ(rope.frequencies()[0], 1);
  EXPECT_FLOAT_EQ(rope.frequencies()[1], 0.01f / 8);
}

// rotary_dim 128, base 10^6, 32768 positions, factor 4 (Qwen2.5's long-context setting): pair i makes 32768 / (2 pi
// 10^(6 i / 64)) turns; 32 turns lie at i = 23.6 and one turn at 39.7, so pairs up to 23 are kept, from 40 on divided
// by 4.
TEST(Rope, Yarn_KeepsFastPairsAndInterpolatesSlowOnes) {
  const RopeSpec rope{.rotary_dim = 128, .base = 1e6f, .yarn_factor = 4, .original_context = 32768};
  const std::vector<float> frequencies = rope.frequencies();
  const auto plain = [](int i) { return std::pow(1e6, -i / 64.0); };
  for (int i = 0; i <= 23; ++i) EXPECT_NEAR(frequencies[i] / plain(i), 1, 1e-6) << i;
  for (int i = 40; i < 64; ++i) EXPECT_NEAR(frequencies[i] / plain(i), 0.25, 1e-6) << i;
  const double keep = 1 - (30 - 23) / 17.0;  // the ramp from 23 to 40
  EXPECT_NEAR(frequencies[30] / plain(30), keep + (1 - keep) / 4, 1e-6);
}

RopeSpec rope_of(const GgufWriter& writer) {
  TemporaryFolder folder;
  EXPECT_TRUE(writer.write(folder.path("model.gguf")).ok());
  const Result<std::shared_ptr<const Model>> model = Model::open(folder.path("model.gguf"));
  EXPECT_TRUE(model.ok()) << model.error().message;
  return model.ok() ? (*model)->spec().rope : RopeSpec();
}

TEST(Rope, ScalingMetadata_IsRead) {
  GgufWriter linear = random_model({.n_layers = 1});
  linear.set("llama.rope.scaling.type", "linear");
  linear.set("llama.rope.scaling.factor", 2.0f);
  EXPECT_FLOAT_EQ(rope_of(linear).frequency_scale, 0.5f);

  GgufWriter legacy = random_model({.n_layers = 1});
  legacy.set("llama.rope.scale_linear", 8.0f);
  EXPECT_FLOAT_EQ(rope_of(legacy).frequency_scale, 0.125f);

  GgufWriter yarn = random_model({.n_layers = 1});
  yarn.set("llama.rope.scaling.type", "yarn");
  yarn.set("llama.rope.scaling.factor", 4.0f);
  yarn.set("llama.rope.scaling.original_context_length", uint32_t{512});
  EXPECT_FLOAT_EQ(rope_of(yarn).yarn_factor, 4);
  EXPECT_EQ(rope_of(yarn).original_context, 512);
  EXPECT_FLOAT_EQ(rope_of(yarn).magnitude, 0.1f * std::log(4.0f) + 1);
}

}  // namespace
}  // namespace spate::testing
