#include "base/error.h"

#include <gtest/gtest.h>
#include <memory>

namespace spate {
namespace {

Result<int> parse_digit(char c) {
  if (c < '0' || c > '9') return Error::usage(fmt::format("'{}' is no digit", c));
  return c - '0';
}

Result<int> sum_of_digits(std::string_view text) {
  int sum = 0;
  for (char c : text) {
    SPATE_TRY(const int digit, parse_digit(c));
    sum += digit;
  }
  return sum;
}

Result<void> require_sum(std::string_view text, int wanted) {
  SPATE_TRY(const int sum, sum_of_digits(text));
  if (sum != wanted) return Error::bad_file("numbers.txt", fmt::format("sums to {}", sum));
  return {};
}

Result<std::string> check_twice(std::string_view text) {
  SPATE_TRY_VOID(require_sum(text, 6));
  SPATE_TRY_VOID(require_sum(text, 6));
  return std::string("fine");
}

Result<std::unique_ptr<int>> boxed(char c) {
  SPATE_TRY(int digit, parse_digit(c));
  return std::make_unique<int>(digit);
}

TEST(Result, Try_OfAValue_DeclaresIt) {
  const Result<int> sum = sum_of_digits("123");
  ASSERT_TRUE(sum.ok());
  EXPECT_TRUE(static_cast<bool>(sum));
  EXPECT_EQ(*sum, 6);
  EXPECT_EQ(*check_twice("123"), "fine");
}

TEST(Result, Try_OfAnError_ReturnsItUnchangedThroughOtherTypes) {
  const Result<std::string> result = check_twice("1x3");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUsage);
  EXPECT_EQ(result.error().message, "'x' is no digit");
}

TEST(Result, TryVoid_OfAnError_ReturnsIt) {
  const Result<std::string> result = check_twice("12");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBadFile);
  EXPECT_EQ(result.error().message, "numbers.txt: sums to 3");
}

TEST(Result, MoveOnlyValue_MovesOut) {
  Result<std::unique_ptr<int>> result = boxed('7');
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(**result, 7);
  const std::unique_ptr<int> owned = std::move(result).value();
  EXPECT_EQ(*owned, 7);
}

TEST(Result, OfVoid_HoldsOkOrError) {
  EXPECT_TRUE(Result<void>().ok());
  Result<void> failed = Error::io("model.gguf", "no such file");
  EXPECT_FALSE(failed.ok());
  EXPECT_EQ(std::move(failed).error().message, "model.gguf: no such file");
}

TEST(ResultDeath, ReadingTheWrongSide_IsOurBug) {
  Result<int> failed = Error::backend("device lost");
  EXPECT_DEATH((void)failed.value(), "device lost");
  const Result<int> fine = 3;
  EXPECT_DEATH((void)fine.error(), "error\\(\\) of a value");
  EXPECT_DEATH((void)Result<void>().error(), "error\\(\\) of a value");
}

TEST(Error, Codes_AreTheDocumentedExitCodes) {
  EXPECT_EQ(static_cast<int>(Error::usage("").code), 2);
  EXPECT_EQ(static_cast<int>(Error::io("", "").code), 3);
  EXPECT_EQ(static_cast<int>(Error::bad_file("", "").code), 4);
  EXPECT_EQ(static_cast<int>(Error::unsupported("").code), 5);
  EXPECT_EQ(static_cast<int>(Error::out_of_resources("").code), 6);
  EXPECT_EQ(static_cast<int>(Error::backend("").code), 7);
  EXPECT_EQ(static_cast<int>(Error::interrupted("").code), 8);
}

TEST(CheckDeath, Failure_SaysWhereWhatAndWhy) {
  const int n_rows = 3;
  EXPECT_DEATH(SPATE_CHECK(n_rows == 4, "{} rows", n_rows), "internal error at .*error_test.cc:.*n_rows == 4: 3 rows");
  EXPECT_DEATH(SPATE_CHECK(n_rows == 4), "n_rows == 4");
}

}  // namespace
}  // namespace spate
