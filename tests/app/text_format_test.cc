#include "app/text_format.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/options.h"

namespace spate::app {
namespace {

TEST(TextFormat, EscapeControl_LeavesNothingThatDrivesATerminal) {
  EXPECT_EQ(escape_control("a\tb\r\nc\x1b[31m\x7f"), "a\\tb\\r\\nc\\x1b[31m\\x7f");
  EXPECT_EQ(escape_control("caf\xc3\xa9 \xe4\xb8\xad"), "caf\xc3\xa9 \xe4\xb8\xad");
  EXPECT_EQ(escape_control("\xc2\x9b"), "\\x9b");  // C1 CSI
  EXPECT_EQ(escape_control("\xe2\x80\xa8"), "\\u2028");
  EXPECT_EQ(escape_control("\xff"), "\xef\xbf\xbd");
}

TEST(TextFormat, Shorten_CutsAtCharacters) {
  EXPECT_EQ(shorten("abc", 3), "abc");
  EXPECT_EQ(shorten("abcd", 3), "abc...");
  EXPECT_EQ(shorten("\xe4\xb8\xad\xe6\x96\x87", 1), "\xe4\xb8\xad...");
  EXPECT_EQ(shorten("", 0), "");
}

TEST(TextFormat, JsonLine_ReplacesBadUtf8) {
  EXPECT_EQ(json_line({{"text", "a\xff"}}), "{\"text\":\"a\xef\xbf\xbd\"}\n");
}

TEST(TextFormat, Numbers_ReadEasily) {
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(uint64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(33012345), "33,012,345");
}

TEST(Options, ParseNumber_TakesWholeDecimalNumbersOnly) {
  EXPECT_EQ(parse_number<int>("010"), 10);
  EXPECT_EQ(parse_number<int>("-3"), -3);
  EXPECT_EQ(parse_number<float>("0.25"), 0.25f);
  EXPECT_EQ(parse_number<float>("-inf"), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(parse_number<uint64_t>("18446744073709551615"), ~uint64_t{0});
  for (const char* bad : {"", " 1", "1 ", "1x", "0x10", "2147483648"}) EXPECT_FALSE(parse_number<int>(bad)) << bad;
  for (const char* bad : {"", "nan", "1e99", "1,5"}) EXPECT_FALSE(parse_number<float>(bad)) << bad;
}

}  // namespace
}  // namespace spate::app
