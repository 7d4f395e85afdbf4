#include "text/pre_tokenizers.h"

#include <ctime>
#include <gmock/gmock.h>
#include <set>
#include <string>

#include "text/pre_tokenizer_cases.h"
#include "text/splitter.h"

namespace spate {
namespace {

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

using testing::first_name;

constexpr std::string_view kCut = "¦";

std::vector<std::string> cut_at_marks(std::string_view marked) {
  std::vector<std::string> pieces(1);
  while (!marked.empty()) {
    if (marked.starts_with(kCut)) {
      pieces.emplace_back();
      marked.remove_prefix(kCut.size());
    } else {
      pieces.back() += marked[0];
      marked.remove_prefix(1);
    }
  }
  return pieces;
}

class HandDerivedCases : public ::testing::TestWithParam<testing::PreTokenizerCases> {};

TEST_P(HandDerivedCases, ArePieces) {
  const PreTokenizer* row = find_pre_tokenizer(GetParam().name);
  ASSERT_NE(row, nullptr);
  const Splitter splitter(*row);
  for (const std::string_view marked : GetParam().pieces) {
    const std::vector<std::string> expected = cut_at_marks(marked);
    std::string text;
    for (const std::string& piece : expected) text += piece;
    EXPECT_THAT(splitter.split(text), ElementsAreArray(expected)) << "text: " << text;
  }
}

INSTANTIATE_TEST_SUITE_P(PreTokenizers, HandDerivedCases, ::testing::ValuesIn(testing::pre_tokenizer_cases()),
                         [](const auto& test) { return testing::test_name(test.param.name); });

TEST(PreTokenizers_Table, EveryRowHasTwelveHandDerivedCases) {
  for (const PreTokenizer& row : pre_tokenizers()) {
    size_t n_cases = 0;
    for (const auto& cases : testing::pre_tokenizer_cases())
      if (cases.name == first_name(row)) n_cases = cases.pieces.size();
    EXPECT_GE(n_cases, 12u) << first_name(row);
  }
}

TEST(PreTokenizers_Table, NamesAreUniqueAndSourcesGiven) {
  std::multiset<std::string> names;
  for (const PreTokenizer& row : pre_tokenizers()) {
    EXPECT_THAT(row.source, ::testing::Not(IsEmpty())) << row.names;
    std::string name;
    for (const char c : std::string(row.names) + ' ') {
      if (c != ' ') {
        name += c;
        continue;
      }
      names.insert(name);
      EXPECT_EQ(find_pre_tokenizer(name), &row) << name;
      name.clear();
    }
  }
  for (const std::string& name : names) EXPECT_EQ(names.count(name), 1u) << name;
}

TEST(PreTokenizers_Table, AbsentNameIsDefaultAndUnknownIsNone) {
  EXPECT_EQ(find_pre_tokenizer(""), find_pre_tokenizer("default"));
  EXPECT_EQ(find_pre_tokenizer("no-such-thing"), nullptr);
  EXPECT_EQ(find_pre_tokenizer("qwen"), nullptr);  // a part of a name is no name
  EXPECT_EQ(find_pre_tokenizer("phi-2 mpt"), nullptr);
}

class EveryRow : public ::testing::TestWithParam<PreTokenizer> {};

TEST_P(EveryRow, PiecesAreTheText) {
  const Splitter splitter(GetParam());
  uint32_t random = 12345;
  for (int i = 0; i < 200; ++i) {
    std::string text;
    const char* parts[] = {"a",  "B", "é", "e\u0301", " ",  "  ",   "\n",       "\r\n",   "\t", "1",  "234", "½",
                           "'s", "'", "!", "/",       "中", "\xFF", "\xE4\xB8", "\u3000", "_",  "한", "😀",   "\u200D"};
    for (int n = 0; n < 20; ++n) {
      random = random * 1664525 + 1013904223;
      text += parts[(random >> 16) % std::size(parts)];
    }
    std::string joined;
    for (const std::string_view piece : splitter.split(text)) {
      EXPECT_FALSE(piece.empty());
      joined += piece;
    }
    EXPECT_EQ(joined, text);
  }
  EXPECT_THAT(splitter.split(""), IsEmpty());
}

// A pass takes some 20 ms of processor time; a quadratic matcher would take minutes. The tails end a run in ways that
// make attempts along it fail.
TEST_P(EveryRow, LongRunsAreLinear) {
  const Splitter splitter(GetParam());
  for (const std::string_view unit : {"a", "A", "é", "中", "1", "½", " ", "\n", "\r\n", "\t", "!", "'", "/", "\u0301",
                                      "\uFFFD", "\xFF", " a", " \n", "1 "}) {
    std::string run;
    while (run.size() < 256 * 1024) run += unit;
    for (const std::string_view tail : {"", "½"}) {
      const std::string text = run + std::string(tail);
      const std::clock_t start = std::clock();
      size_t n_bytes = 0;
      for (const std::string_view piece : splitter.split(text)) n_bytes += piece.size();
      EXPECT_EQ(n_bytes, text.size());
      EXPECT_LT(std::clock() - start, 2 * CLOCKS_PER_SEC) << "unit '" << unit << "' tail '" << tail << "'";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(PreTokenizers, EveryRow, ::testing::ValuesIn(pre_tokenizers()),
                         [](const auto& test) { return testing::test_name(first_name(test.param)); });

}  // namespace
}  // namespace spate
