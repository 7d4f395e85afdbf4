#include "text/pattern.h"

#include <ctime>
#include <gtest/gtest.h>
#include <string>

namespace spate {
namespace {

// Length of the match at the start of the text.
size_t match_length(std::string_view expression, std::u32string_view text) {
  const Result<Pattern> pattern = Pattern::compile(expression);
  EXPECT_TRUE(pattern.ok()) << pattern.error().message;
  if (!pattern.ok()) return 0;
  Pattern::Trail trail;
  return pattern->match(text, 0, text.size(), trail);
}

TEST(Pattern, FirstAlternativeThatMatchesWins) {
  EXPECT_EQ(match_length("a|ab", U"ab"), 1u);
  EXPECT_EQ(match_length("ab|a", U"ab"), 2u);
  EXPECT_EQ(match_length("abc|a", U"abd"), 1u);
  EXPECT_EQ(match_length("a*b|a", U"aaa"), 1u);
  EXPECT_EQ(match_length("(?:a|ab)(?:c|bcd)", U"abcd"), 4u);
  EXPECT_EQ(match_length("(?:ab|a)(?:bc)?", U"abc"), 2u);
}

TEST(Pattern, QuantifiersAreGreedyAndGiveBack) {
  EXPECT_EQ(match_length("a*", U"aaab"), 3u);
  EXPECT_EQ(match_length("a+", U"baa"), 0u);
  EXPECT_EQ(match_length("ba?a", U"ba"), 2u);
  EXPECT_EQ(match_length("a*ab", U"aaab"), 4u);
  EXPECT_EQ(match_length("[ab]*[bc]+", U"abab"), 4u);
  EXPECT_EQ(match_length("a{2}", U"aaa"), 2u);
  EXPECT_EQ(match_length("a{2}", U"a"), 0u);
  EXPECT_EQ(match_length("a{1,3}", U"aaaa"), 3u);
  EXPECT_EQ(match_length("(?:ab){1,2}", U"ababab"), 4u);
}

TEST(Pattern, LooksOneCharacterAhead) {
  EXPECT_EQ(match_length(R"(\s+(?!\S))", U"   x"), 2u);
  EXPECT_EQ(match_length(R"(\s+(?!\S))", U"   "), 3u);
  EXPECT_EQ(match_length(R"(\s+(?!\S))", U" x"), 0u);
  EXPECT_EQ(match_length("a(?=b)", U"ab"), 1u);
  EXPECT_EQ(match_length("a(?=b)", U"a"), 0u);
  EXPECT_EQ(match_length("a+$", U"aaa"), 3u);
  EXPECT_EQ(match_length("a+$", U"aab"), 0u);
}

TEST(Pattern, SeesNothingOutsideThePiece) {
  const Result<Pattern> pattern = Pattern::compile(R"(\s+(?!\S)|a+$)");
  ASSERT_TRUE(pattern.ok());
  const std::u32string_view text = U"aa  b";
  Pattern::Trail trail;
  EXPECT_EQ(pattern->match(text, 0, 2, trail), 2u);
  EXPECT_EQ(pattern->match(text, 2, 4, trail), 4u);
}

TEST(Pattern, ReadsClasses) {
  EXPECT_EQ(match_length("[a-c-]+", U"a-cd"), 3u);
  EXPECT_EQ(match_length("[^a-c]+", U"xya"), 2u);
  EXPECT_EQ(match_length(R"([\p{L}&&[^\p{Lu}]]+)", U"abC"), 2u);
  EXPECT_EQ(match_length("[x[yz]]+", U"xyzw"), 3u);
  EXPECT_EQ(match_length(R"([\[\]\\^]+)", U"[]\\^a"), 4u);
  EXPECT_EQ(match_length(R"(\x{1F600}\P{L})", U"\U0001F6001"), 2u);
  EXPECT_EQ(match_length(R"(\d+)", U"1\u06622½"), 3u);
}

TEST(Pattern, IgnoresCaseWhereAsked) {
  EXPECT_EQ(match_length("(?i:'ll|'s)", U"'LL"), 3u);
  EXPECT_EQ(match_length("(?i:'ll|'s)", U"'lL"), 3u);
  EXPECT_EQ(match_length("(?i:'ll|'s)", U"'\u017F"), 2u);  // long s
  EXPECT_EQ(match_length("(?i:a)b", U"AB"), 0u);
}

TEST(Pattern, EmptyMatchIsNone) {
  EXPECT_EQ(match_length("a*", U"b"), 0u);
  EXPECT_EQ(match_length("", U"b"), 0u);
  EXPECT_EQ(match_length("a", U""), 0u);
}

TEST(Pattern, ErrorsNameThePatternAndThePlace) {
  for (const char* expression : {"(",   "a)",      "[a",          "a{",      "a{2",    "a{3,2}", "a{0}",    "a{9999}",
                                 "*a",  "a**",     "a++",         "a+?",     ".",      "\\",     "\\q",     "\\p{Nope}",
                                 "\\p", "\\x{ZZ}", "\\x{110000}", "(?<n>a)", "(?=ab)", "[b-a]",  "[\\s-a]", "^a"}) {
    const Result<Pattern> pattern = Pattern::compile(expression);
    ASSERT_FALSE(pattern.ok()) << expression;
    EXPECT_EQ(pattern.error().code, ErrorCode::kUsage);
    EXPECT_NE(pattern.error().message.find(expression), std::string::npos) << pattern.error().message;
  }
}

TEST(Pattern, RefusesAnAutomatonThatExplodes) {
  const Result<Pattern> pattern = Pattern::compile("[ab]*a[ab]{30}");
  ASSERT_FALSE(pattern.ok());
  EXPECT_NE(pattern.error().message.find("too many states"), std::string::npos);
}

// Attempts that run to the end in vain from every start: quadratic without the trail.
TEST(Pattern, VainAttemptsStayLinear) {
  const std::u32string text = std::u32string(256 * 1024, U' ') + U"x";
  for (const char* expression : {R"(\s+$)", R"(\s*[\r\n])", R"(\s+\p{N})", R"(\s{8}(?!\S)|\s+\n)"}) {
    const Result<Pattern> pattern = Pattern::compile(expression);
    ASSERT_TRUE(pattern.ok()) << pattern.error().message;
    Pattern::Trail trail;
    const std::clock_t start = std::clock();
    for (size_t at = 0; at < text.size();) {
      const size_t end = pattern->match(text, at, text.size(), trail);
      at = end > at ? end : at + 1;
    }
    EXPECT_LT(std::clock() - start, CLOCKS_PER_SEC) << expression;
  }
}

}  // namespace
}  // namespace spate
