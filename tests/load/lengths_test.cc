#include "load/lengths.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <vector>

namespace spate::load {
namespace {

std::vector<int> drawn(std::string_view text, int n) {
  const Lengths lengths = Lengths::parse(text).value();
  Random random(1);
  std::vector<int> values;
  for (int i = 0; i < n; ++i) values.push_back(lengths.draw(random));
  return values;
}

double mean_of(const std::vector<int>& values) {
  double sum = 0;
  for (const int value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

TEST(Lengths, Fixed_IsAlwaysTheSame) {
  for (const char* text : {"7", "fixed:7"})
    EXPECT_EQ(std::set<int>({7}), [&] {
      const std::vector<int> values = drawn(text, 100);
      return std::set<int>(values.begin(), values.end());
    }());
}

TEST(Lengths, Uniform_ReachesBothEndsAndNothingElse) {
  const std::vector<int> values = drawn("uniform:3-6", 1000);
  EXPECT_EQ(std::set<int>(values.begin(), values.end()), std::set<int>({3, 4, 5, 6}));
  EXPECT_NEAR(mean_of(values), 4.5, 0.15);
  EXPECT_EQ(drawn("uniform:5-5", 3), std::vector<int>({5, 5, 5}));
}

TEST(Lengths, Lognormal_HasItsMedianAndItsSpread) {
  std::vector<int> values = drawn("lognormal:1000,0.5", 20'001);
  std::sort(values.begin(), values.end());
  EXPECT_NEAR(values[10'000], 1000, 20);
  // One deviation of the logarithm above the median, e^0.5 times, stand 15.87 %.
  EXPECT_NEAR(values[16'827], 1000 * std::exp(0.5), 50);
  EXPECT_EQ(drawn("lognormal:9,0", 2), std::vector<int>({9, 9}));
}

TEST(Lengths, Exponential_HasItsMeanAndIsAtLeastOne) {
  const std::vector<int> values = drawn("exponential:200", 20'000);
  EXPECT_NEAR(mean_of(values), 200, 5);
  EXPECT_EQ(*std::min_element(values.begin(), values.end()), 1);
}

TEST(Lengths, Max_IsKept) {
  for (const char* text : {"lognormal:100,2,120", "exponential:100,120"}) {
    const std::vector<int> values = drawn(text, 1000);
    EXPECT_EQ(*std::max_element(values.begin(), values.end()), 120) << text;
    EXPECT_GT(std::set<int>(values.begin(), values.end()).size(), 50u) << text;
  }
}

TEST(Lengths, SameSeed_SameLengths) {
  EXPECT_EQ(drawn("lognormal:100,1", 50), drawn("lognormal:100,1", 50));
}

TEST(Lengths, Nonsense_IsAnError) {
  for (const char* text : {"",
                           "0",
                           "-1",
                           "fixed:",
                           "fixed:1.5",
                           "fixed:1x",
                           "512,",
                           "10000001",
                           "uniform:5",
                           "uniform:5-",
                           "uniform:6-5",
                           "uniform:0-5",
                           "uniform:1-99999999999",
                           "lognormal:100",
                           "lognormal:100,",
                           "lognormal:100,-1",
                           "lognormal:100,nan",
                           "lognormal:100,inf",
                           "lognormal:100,1,99",
                           "lognormal:100,1,200,",
                           "exponential:",
                           "exponential:5,4",
                           "normal:5,1",
                           "Fixed:5"})
    EXPECT_FALSE(Lengths::parse(text).ok()) << text;
  EXPECT_THAT(Lengths::parse("abc").error().message, ::testing::HasSubstr("'abc' is no distribution of lengths"));
}

}  // namespace
}  // namespace spate::load
