#include "quant/half.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace spate {
namespace {

uint32_t bits(float value) {
  return std::bit_cast<uint32_t>(value);
}

// What a half means, from IEEE 754's definition rather than from its bits.
double f16_value(uint16_t half) {
  const int exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, F16ToF32_EveryFiniteHalf_HasItsValue) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half & 0x7c00) == 0x7c00) continue;
    ASSERT_EQ(bits(f16_to_f32(half)), bits(static_cast<float>(f16_value(half)))) << std::hex << half;
  }
}

TEST(Half, F32ToF16_EveryHalf_RoundTrips) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const bool nan = (half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0;
    ASSERT_EQ(f32_to_f16(f16_to_f32(half)), nan ? half | 0x200 : half) << std::hex << half;
  }
}

TEST(Half, F32ToF16_BetweenNeighbours_RoundsToNearestEven) {
  for (uint32_t half = 0; half < 0x7bff; ++half) {
    const uint32_t even = (half & 1) == 0 ? half : half + 1;
    const float middle = static_cast<float>((f16_value(half) + f16_value(half + 1)) / 2);  // exact
    ASSERT_EQ(f32_to_f16(middle), even) << std::hex << half;
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000) << std::hex << half;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), half) << std::hex << half;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9f)), half + 1) << std::hex << half;
  }
}

TEST(Half, F32ToF16_OutOfRange_OverflowsAndUnderflows) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(1e30f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-infinity), 0xfc00);
  EXPECT_EQ(f32_to_f16(1e-30f), 0);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

TEST(Half, F32ToF16_Nan_StaysNan) {
  EXPECT_EQ(f32_to_f16(std::bit_cast<float>(0xff800001)), 0xfe00);
  EXPECT_TRUE(std::isnan(f16_to_f32(0x7c01)));
}

TEST(Half, F32ToBf16_RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000)), 0x3f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000)), 0x3f82);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001)), 0x3f81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7f800001)), 0x7fc0);
  EXPECT_EQ(f32_to_bf16(-0.0f), 0x8000);
}

TEST(Half, Bf16_EveryValue_RoundTrips) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    ASSERT_EQ(bits(bf16_to_f32(half)), half << 16);
    const bool nan = (half & 0x7f80) == 0x7f80 && (half & 0x7f) != 0;
    ASSERT_EQ(f32_to_bf16(bf16_to_f32(half)), nan ? half | 0x40 : half) << std::hex << half;
  }
}

}  // namespace
}  // namespace spate
