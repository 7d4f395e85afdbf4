#include "server/api/token_aligner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"

namespace spate::testing {
namespace {

using api::TokenAligner;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class Alignment : public ::testing::Test {
 protected:
  // The ids given out, each with where its text begins.
  std::vector<std::pair<TokenId, size_t>> add(const std::vector<TokenId>& tokens, std::string text,
                                              std::optional<Finish> finish = std::nullopt) {
    OutputDelta delta{.text = std::move(text), .finish = std::move(finish)};
    for (const TokenId id : tokens) delta.tokens.push_back({.token = id});
    std::vector<std::pair<TokenId, size_t>> out;
    for (const api::AlignedToken& aligned : aligner.add(delta))
      out.emplace_back(aligned.token.token, aligned.begin_chars);
    return out;
  }

  std::shared_ptr<const ServedModel> model = small_model();
  TokenAligner aligner{model->tokenizer(), 10};
};

TEST_F(Alignment, TokensComeWithTheirText) {
  EXPECT_THAT(add({'x'}, "x"), ElementsAre(Pair('x', 10)));
  EXPECT_THAT(add({kTokenAbc, 'y'}, "abcy"), ElementsAre(Pair(kTokenAbc, 11), Pair('y', 14)));
}

TEST_F(Alignment, TextThatIsHeldBack_KeepsItsTokens) {
  EXPECT_THAT(add({'x', 'S', 'T'}, "x"), ElementsAre(Pair('x', 10)));
  EXPECT_THAT(add({'O'}, ""), IsEmpty());
  EXPECT_THAT(add({'!'}, "STO!"), ElementsAre(Pair('S', 11), Pair('T', 12), Pair('O', 13), Pair('!', 14)));
}

TEST_F(Alignment, TokensOfAStopString_AreNeverGivenOut) {
  EXPECT_THAT(add({'x', 'S'}, "x"), ElementsAre(Pair('x', 10)));
  EXPECT_THAT(add({'T'}, "", Finish{.stop_string = "ST"}), IsEmpty());
}

TEST_F(Alignment, TokenThatAStopStringCutsThrough_IsGivenOut) {
  EXPECT_THAT(add({kTokenAbc}, "a", Finish{.stop_string = "bc"}), ElementsAre(Pair(kTokenAbc, 10)));
}

TEST_F(Alignment, EndToken_IsNotGivenOut) {
  EXPECT_THAT(add({'x', kImEnd}, "x", Finish{.end_token = kImEnd}), ElementsAre(Pair('x', 10)));
}

TEST_F(Alignment, EndByLength_GivesOutWhatWasHeldBack) {
  EXPECT_THAT(add({'x', 'S', kImEnd}, "x"), ElementsAre(Pair('x', 10)));
  EXPECT_THAT(add({}, "S", Finish{.reason = FinishReason::kLength}), ElementsAre(Pair('S', 11), Pair(kImEnd, 12)));
}

TEST_F(Alignment, OffsetsCountCharacters) {
  EXPECT_THAT(add({0xC3, 0xA9, 'x'}, "éx"), ElementsAre(Pair(0xC3, 10), Pair(0xA9, 10), Pair('x', 11)));
}

}  // namespace
}  // namespace spate::testing
