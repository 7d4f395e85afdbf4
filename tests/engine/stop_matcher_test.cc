#include "engine/stop_matcher.h"

#include <gtest/gtest.h>
#include <random>

#include "base/utf8.h"

namespace spate {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> found;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << "'" << outcome.text << "' then " << outcome.found.value_or("(end)");
}

Outcome run(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(std::move(stops));
  Outcome outcome;
  for (const std::string& piece : pieces) outcome.text += matcher.push(piece);
  outcome.text += matcher.finish();
  outcome.found = matcher.found();
  return outcome;
}

// The definition: cut at the first byte where any stop string ends, the longest of those that end there.
Outcome brute_force(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string* match = nullptr;
    for (const std::string& stop : stops)
      if (text.substr(0, end).ends_with(stop) && (match == nullptr || stop.size() > match->size())) match = &stop;
    if (match != nullptr) return {text.substr(0, end - match->size()), *match};
  }
  return {text, std::nullopt};
}

TEST(StopMatcher, NoStopStrings_LetsEverythingThroughAtOnce) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.finish(), "");
  EXPECT_FALSE(matcher.found());
}

TEST(StopMatcher, PossibleBeginning_IsHeldBack) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.push("one <"), "one ");
  EXPECT_EQ(matcher.push("/e"), "");
  EXPECT_EQ(matcher.push("m> two"), "</em> two");
  EXPECT_EQ(matcher.push("</en"), "");
  EXPECT_EQ(matcher.push(""), "");
  EXPECT_EQ(matcher.finish(), "</en");
  EXPECT_FALSE(matcher.found());
}

TEST(StopMatcher, StopAcrossPieces_IsNeverEmitted) {
  EXPECT_EQ(run({"\n\nUser:"}, {"Hi.", "\n", "\nUs", "er", ": ho", "w"}), (Outcome{"Hi.", "\n\nUser:"}));
}

TEST(StopMatcher, StopInsideOnePiece_DropsTheRest) {
  EXPECT_EQ(run({"END"}, {"a END b", " END c"}), (Outcome{"a ", "END"}));
}

TEST(StopMatcher, FirstToEnd_WinsWhereverThePiecesAreCut) {
  EXPECT_EQ(run({"abcd", "bc"}, {"xabcd"}), (Outcome{"xa", "bc"}));
  EXPECT_EQ(run({"abcd", "bc"}, {"xa", "b", "cd"}), (Outcome{"xa", "bc"}));
  EXPECT_EQ(run({"bc", "abc"}, {"xabc"}), (Outcome{"x", "abc"}));
}

TEST(StopMatcher, SelfOverlappingStop_IsFound) {
  EXPECT_EQ(run({"aab"}, {"a", "a", "a", "a", "b"}), (Outcome{"aa", "aab"}));
  EXPECT_EQ(run({"ababac"}, {"abab", "abac"}), (Outcome{"ab", "ababac"}));
}

TEST(StopMatcher, MultiByteText_IsCutBetweenCharacters) {
  StopMatcher matcher({"€€"});  // E2 82 AC twice; "é" and "₂" share bytes with it
  EXPECT_EQ(matcher.push("é€"), "é");
  EXPECT_EQ(matcher.push("₂"), "€₂");
  EXPECT_EQ(matcher.push("x€"), "x");
  EXPECT_EQ(matcher.push("€!"), "");
  EXPECT_EQ(matcher.found(), "€€");
}

TEST(StopMatcher, RandomTextsCutAnywhere_AgreeWithTheDefinition) {
  std::mt19937 random(5);
  const auto random_text = [&](int min_chars, int max_chars) {
    static const char* kCharacters[] = {"a", "b", "€", "₂"};
    std::string text;
    for (int n = std::uniform_int_distribution(min_chars, max_chars)(random); n > 0; --n)
      text += kCharacters[random() % 4];
    return text;
  };
  int n_found = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = random() % 4; n > 0; --n) stops.push_back(random_text(2, 5));
    const std::string text = random_text(0, 40);
    std::vector<std::string> pieces(1);
    for (size_t i = 0; i < text.size(); ++i) {
      if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80 && random() % 3 == 0) pieces.emplace_back();
      pieces.back() += text[i];
    }
    const Outcome outcome = run(stops, pieces);
    ASSERT_EQ(outcome, brute_force(stops, text)) << "of '" << text << "'";
    n_found += outcome.found.has_value();

    StopMatcher matcher(stops);
    for (const std::string& piece : pieces) ASSERT_TRUE(is_valid_utf8(matcher.push(piece)));
  }
  EXPECT_GT(n_found, 500);
}

}  // namespace
}  // namespace spate
