#include "text/vocab.h"

#include <cmath>
#include <functional>
#include <gmock/gmock.h>

#include "text/test_vocab.h"

namespace spate {
namespace {

using testing::byte_level_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kFirstNamedToken;
using testing::NamedToken;
using testing::sentence_piece_file;
using testing::vocab_of;

TEST(Vocab_ByteLevel, ReadsTokensAndDefaults) {
  const Result<Vocab> vocab = vocab_of(byte_level_file({{"<|x|>", TokenKind::kControl}}));
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_EQ(vocab->model, VocabModel::kByteBpe);
  EXPECT_EQ(vocab->pre, "gpt-2");
  EXPECT_EQ(vocab->size(), kFirstNamedToken + 1);
  EXPECT_EQ(vocab->tokens[' '], "Ġ");
  EXPECT_EQ(vocab->kinds.back(), TokenKind::kControl);
  EXPECT_THAT(vocab->merges, ElementsAre("a b", "ab c"));
  for (const TokenId id : {vocab->bos, vocab->eos, vocab->eot, vocab->eom, vocab->unknown, vocab->pad})
    EXPECT_EQ(id, kNoToken);
  EXPECT_FALSE(vocab->add_bos);
  EXPECT_FALSE(vocab->add_eos);
  EXPECT_FALSE(vocab->add_space_prefix);
  EXPECT_THAT(vocab->end_of_generation, IsEmpty());
}

TEST(Vocab_SentencePiece, ReadsScoresAndDefaults) {
  const Result<Vocab> vocab = vocab_of(sentence_piece_file({{"a", -1.5f}}));
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_EQ(vocab->model, VocabModel::kSentencePiece);
  EXPECT_EQ(vocab->scores.back(), -1.5f);
  EXPECT_EQ(vocab->unknown, 0);
  EXPECT_EQ(vocab->bos, 1);
  EXPECT_EQ(vocab->eos, 2);
  EXPECT_TRUE(vocab->add_bos);
  EXPECT_FALSE(vocab->add_eos);
  EXPECT_TRUE(vocab->add_space_prefix);
  EXPECT_THAT(vocab->end_of_generation, ElementsAre(2));
}

TEST(Vocab_SentencePiece, DefaultIdsMustBeWhatTheyShouldBe) {
  GgufWriter writer = sentence_piece_file({});
  std::vector<int32_t> kinds(259, 6);
  kinds[0] = kinds[1] = kinds[2] = 1;
  writer.set("tokenizer.ggml.token_type", kinds);
  const Result<Vocab> vocab = vocab_of(writer);
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_EQ(vocab->bos, kNoToken);
  EXPECT_EQ(vocab->eos, kNoToken);
  EXPECT_EQ(vocab->unknown, kNoToken);
  EXPECT_FALSE(vocab->add_bos);
}

TEST(Vocab_Rules, FollowTheMetadata) {
  GgufWriter writer = byte_level_file({{"<b>", TokenKind::kControl}, {"<e>", TokenKind::kControl}});
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{kFirstNamedToken});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{kFirstNamedToken + 1});
  writer.set("tokenizer.ggml.padding_token_id", uint32_t{0xFFFFFFFF});
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_eos_token", true);
  const Result<Vocab> vocab = vocab_of(writer);
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_EQ(vocab->bos, kFirstNamedToken);
  EXPECT_EQ(vocab->eos, kFirstNamedToken + 1);
  EXPECT_EQ(vocab->pad, kNoToken);
  EXPECT_TRUE(vocab->add_bos);
  EXPECT_TRUE(vocab->add_eos);
}

TEST(Vocab_Rules, PreTokenizerDecidesBosWhereTheFileDoesNot) {
  GgufWriter writer = byte_level_file({{"<b>", TokenKind::kControl}});
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{kFirstNamedToken});
  EXPECT_FALSE(vocab_of(writer)->add_bos);
  writer.set("tokenizer.ggml.pre", "llama-bpe");
  EXPECT_TRUE(vocab_of(writer)->add_bos);
  writer.set("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(vocab_of(writer)->add_bos);
}

TEST(Vocab_Ends, AreNamedAndSetApartFromText) {
  GgufWriter writer = byte_level_file({{"<|im_end|>", TokenKind::kControl},
                                       {"<end_of_turn>", TokenKind::kUserDefined},
                                       {"</s>", TokenKind::kNormal},
                                       {"<|end|>", TokenKind::kControl},
                                       {"<|im_start|>", TokenKind::kControl},
                                       {"<e>", TokenKind::kControl},
                                       {"<t>", TokenKind::kControl},
                                       {"<m>", TokenKind::kControl}});
  const uint32_t first = kFirstNamedToken;
  writer.set("tokenizer.ggml.eos_token_id", first + 5);
  writer.set("tokenizer.ggml.eot_token_id", first + 6);
  writer.set("tokenizer.ggml.eom_token_id", first + 7);
  const Result<Vocab> vocab = vocab_of(writer);
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_THAT(vocab->end_of_generation, ElementsAre(first, first + 1, first + 3, first + 5, first + 6, first + 7));
  EXPECT_TRUE(vocab->ends_generation(kFirstNamedToken));
  EXPECT_FALSE(vocab->ends_generation(kFirstNamedToken + 2));
  EXPECT_FALSE(vocab->ends_generation(kNoToken));
}

TEST(Vocab_Ends, HarmonyEndsMessagesWithoutEndingTheTurn) {
  const Result<Vocab> vocab = vocab_of(byte_level_file(
      {{"<|end|>", TokenKind::kControl}, {"<|return|>", TokenKind::kControl}, {"<|call|>", TokenKind::kControl}}));
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_THAT(vocab->end_of_generation, ElementsAre(kFirstNamedToken + 1, kFirstNamedToken + 2));
}

TEST(Vocab_Model, OthersAreRefusedByName) {
  for (const auto& [model, text] : {std::pair{"bert", "WordPiece"}, std::pair{"t5", "Unigram"},
                                    std::pair{"rwkv", "RWKV"}, std::pair{"frobnicate", "'frobnicate'"}}) {
    GgufWriter writer = byte_level_file();
    writer.set("tokenizer.ggml.model", model);
    const Result<Vocab> vocab = vocab_of(writer);
    ASSERT_FALSE(vocab.ok());
    EXPECT_EQ(vocab.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(vocab.error().message, HasSubstr(text));
  }
}

struct Damage {
  const char* name;
  std::function<void(GgufWriter&)> apply;  // to a file that is fine
  const char* message;
  bool sentence_piece = false;
};

void PrintTo(const Damage& damage, std::ostream* out) {
  *out << damage.name;
}

class DamagedVocab : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedVocab, IsRefusedByName) {
  GgufWriter writer = GetParam().sentence_piece ? sentence_piece_file({{"a", 0.0f}}) : byte_level_file();
  ASSERT_TRUE(vocab_of(writer).ok());
  GetParam().apply(writer);
  const Result<Vocab> vocab = vocab_of(writer);
  ASSERT_FALSE(vocab.ok());
  EXPECT_EQ(vocab.error().code, ErrorCode::kBadFile) << vocab.error().message;
  EXPECT_THAT(vocab.error().message, HasSubstr("vocab.gguf"));
  EXPECT_THAT(vocab.error().message, HasSubstr(GetParam().message));
}

std::vector<std::string> merges(std::string bad) {
  return {"a b", std::move(bad)};
}

INSTANTIATE_TEST_SUITE_P(
    Vocab, DamagedVocab,
    ::testing::Values(
        Damage{"NoModel", [](GgufWriter& w) { w.remove("tokenizer.ggml.model"); }, "tokenizer.ggml.model is missing"},
        Damage{"ModelNoString", [](GgufWriter& w) { w.set("tokenizer.ggml.model", uint32_t{1}); },
               "tokenizer.ggml.model"},
        Damage{"NoTokens", [](GgufWriter& w) { w.remove("tokenizer.ggml.tokens"); },
               "tokenizer.ggml.tokens is missing"},
        Damage{"EmptyTokens", [](GgufWriter& w) { w.set("tokenizer.ggml.tokens", std::vector<std::string>{}); },
               "tokenizer.ggml.tokens is empty"},
        Damage{"TokensOfNumbers", [](GgufWriter& w) { w.set("tokenizer.ggml.tokens", std::vector<int32_t>(258)); },
               "tokenizer.ggml.tokens is no array of strings"},
        Damage{"FewKinds", [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<int32_t>(257, 1)); },
               "tokenizer.ggml.token_type has 257 entries for 258 tokens"},
        Damage{"KindZero", [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<int32_t>(258, 0)); },
               "tokenizer.ggml.token_type[0] is 0"},
        Damage{"KindSeven", [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<int32_t>(258, 7)); },
               "tokenizer.ggml.token_type[0] is 7"},
        Damage{"KindsOfFloats", [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<float>(258, 1)); },
               "tokenizer.ggml.token_type is no array of integers"},
        Damage{"KindsOfStrings",
               [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<std::string>(258, "1")); },
               "tokenizer.ggml.token_type is no array of numbers"},
        Damage{"ByteTokenWithoutByte",
               [](GgufWriter& w) { w.set("tokenizer.ggml.token_type", std::vector<int32_t>(258, 6)); },
               "token 0 is of the byte type"},
        Damage{"NoMerges", [](GgufWriter& w) { w.remove("tokenizer.ggml.merges"); },
               "tokenizer.ggml.merges is missing"},
        Damage{"MergesOfNumbers", [](GgufWriter& w) { w.set("tokenizer.ggml.merges", std::vector<int32_t>(3)); },
               "tokenizer.ggml.merges is no array of strings"},
        Damage{"MergeOfOne", [](GgufWriter& w) { w.set("tokenizer.ggml.merges", merges("ab")); },
               "tokenizer.ggml.merges[1] is 'ab'"},
        Damage{"MergeWithoutLeft", [](GgufWriter& w) { w.set("tokenizer.ggml.merges", merges(" a")); },
               "tokenizer.ggml.merges[1]"},
        Damage{"MergeWithoutRight", [](GgufWriter& w) { w.set("tokenizer.ggml.merges", merges("a ")); },
               "tokenizer.ggml.merges[1]"},
        Damage{"MergeOfThree", [](GgufWriter& w) { w.set("tokenizer.ggml.merges", merges("a b c")); },
               "tokenizer.ggml.merges[1]"},
        Damage{"BosOutOfRange", [](GgufWriter& w) { w.set("tokenizer.ggml.bos_token_id", uint32_t{258}); },
               "tokenizer.ggml.bos_token_id is 258, but there are 258 tokens"},
        Damage{"EosBelowNone", [](GgufWriter& w) { w.set("tokenizer.ggml.eos_token_id", int32_t{-2}); },
               "tokenizer.ggml.eos_token_id"},
        Damage{"UnusedIdOutOfRange", [](GgufWriter& w) { w.set("tokenizer.ggml.mask_token_id", uint32_t{9999}); },
               "tokenizer.ggml.mask_token_id is 9999"},
        Damage{"IdIsAString", [](GgufWriter& w) { w.set("tokenizer.ggml.eot_token_id", "1"); },
               "tokenizer.ggml.eot_token_id"},
        Damage{"BosWantedButNone", [](GgufWriter& w) { w.set("tokenizer.ggml.add_bos_token", true); },
               "tokenizer.ggml.add_bos_token is true"},
        Damage{"EosWantedButNone", [](GgufWriter& w) { w.set("tokenizer.ggml.add_eos_token", true); },
               "tokenizer.ggml.add_eos_token is true"},
        Damage{"RuleIsANumber", [](GgufWriter& w) { w.set("tokenizer.ggml.add_bos_token", uint32_t{1}); },
               "tokenizer.ggml.add_bos_token"},
        Damage{"NoScores", [](GgufWriter& w) { w.remove("tokenizer.ggml.scores"); }, "tokenizer.ggml.scores is missing",
               true},
        Damage{"ManyScores", [](GgufWriter& w) { w.set("tokenizer.ggml.scores", std::vector<float>(261)); },
               "tokenizer.ggml.scores has 261 entries for 260 tokens", true},
        Damage{"InfiniteScore",
               [](GgufWriter& w) { w.set("tokenizer.ggml.scores", std::vector<float>(260, -INFINITY)); },
               "tokenizer.ggml.scores[0] is not finite", true},
        Damage{"NoNumberScore",
               [](GgufWriter& w) { w.set("tokenizer.ggml.scores", std::vector<float>(260, std::nanf(""))); },
               "tokenizer.ggml.scores[0] is not finite", true}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace spate
