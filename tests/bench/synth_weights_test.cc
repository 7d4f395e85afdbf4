// Random qblocks of every type.
#include "bench/synth_weights.h"

#include <cmath>
#include <gtest/gtest.h>

namespace spate::testing {
namespace {

std::vector<std::byte> streamed(const QblockPool& pool, int64_t n_elems, uint64_t seed) {
  std::vector<std::byte> bytes;
  SplitMix random(seed);
  const auto done = pool.stream(static_cast<uint64_t>(quant_bytes(pool.type(), n_elems)), random,
                                [&](std::span<const std::byte> piece) -> Result<void> {
                                  bytes.insert(bytes.end(), piece.begin(), piece.end());
                                  return {};
                                });
  EXPECT_TRUE(done.ok());
  return bytes;
}

TEST(QblockPool, EveryType_HasTheDeviationAskedForAndNoMean) {
  constexpr int64_t kElems = 1 << 18;
  for (const QuantType type : all_quant_types()) {
    const QuantTraits& traits = quant_traits(type);
    const std::vector<std::byte> bytes = streamed(QblockPool(type, 0.02f, 5), kElems, 1);
    std::vector<float> values(kElems);
    traits.decode(bytes.data(), kElems / traits.block_elems, values.data());
    double sum = 0, squares = 0;
    for (const float value : values) {
      ASSERT_TRUE(std::isfinite(value)) << traits.name;
      sum += value;
      squares += static_cast<double>(value) * value;
    }
    EXPECT_NEAR(std::sqrt(squares / kElems), 0.02, 0.02 * 0.02) << traits.name;
    // Within a few standard errors of qblocks whose 32 or 256 elements share a sign.
    EXPECT_NEAR(sum / kElems, 0, 0.0005) << traits.name;
  }
}

TEST(QblockPool, Seed_DecidesEveryByte) {
  const QblockPool pool(QuantType::kQ4_K, 0.02f, 5), again(QuantType::kQ4_K, 0.02f, 5),
      other(QuantType::kQ4_K, 0.02f, 6);
  EXPECT_EQ(streamed(pool, 1 << 16, 1), streamed(again, 1 << 16, 1));
  EXPECT_NE(streamed(pool, 1 << 16, 1), streamed(pool, 1 << 16, 2));
  EXPECT_NE(streamed(pool, 1 << 16, 1), streamed(other, 1 << 16, 1));
}

TEST(QblockPool, MoreThanThePoolHolds_IsStreamedWhole) {
  const QblockPool pool(QuantType::kQ8_0, 0.02f, 5);
  EXPECT_EQ(streamed(pool, 20 << 20, 3).size(), static_cast<size_t>(quant_bytes(QuantType::kQ8_0, 20 << 20)));
}

TEST(QblockPool, TakerThatFails_EndsTheStream) {
  const QblockPool pool(QuantType::kQ4_0, 0.02f, 5);
  SplitMix random(1);
  const auto done = pool.stream(
      18 * 1000, random, [](std::span<const std::byte>) -> Result<void> { return Error::io("disk", "is full"); });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().message, "disk: is full");
}

TEST(SplitMix, FirstNumbers_AreThePublishedOnes) {
  // The reference implementation's output for seed 1234567.
  SplitMix random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317ull);
  EXPECT_EQ(random.next(), 3203168211198807973ull);
}

}  // namespace
}  // namespace spate::testing
