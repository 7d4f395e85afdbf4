#include "text/tokenizer.h"

#include <ctime>
#include <gmock/gmock.h>
#include <random>

#include "base/utf8.h"
#include "text/pre_tokenizer_cases.h"
#include "text/test_vocab.h"

namespace spate {

namespace {

using testing::byte_level_file;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kFirstNamedToken;
using testing::kFirstPiece;
using testing::kTokenAb;
using testing::kTokenAbc;
using testing::sentence_piece_file;
using testing::vocab_of;

constexpr EncodeOptions kPlain = {.parse_special = false, .add_special = false};

std::unique_ptr<Tokenizer> tokenizer_of(const GgufWriter& writer) {
  Result<Vocab> vocab = vocab_of(writer);
  SPATE_CHECK(vocab.ok(), "{}", vocab.error().message);
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(*vocab));
  SPATE_CHECK(tokenizer.ok(), "{}", tokenizer.error().message);
  return std::move(*tokenizer);
}

TEST(Tokenizer_ByteLevel, MergesBestFirst) {
  const auto tokenizer = tokenizer_of(byte_level_file());
  EXPECT_THAT(tokenizer->encode("abc"), ElementsAre(kTokenAbc));
  EXPECT_THAT(tokenizer->encode("abab"), ElementsAre(kTokenAb, kTokenAb));
  EXPECT_THAT(tokenizer->encode("bcab"), ElementsAre('b', 'c', kTokenAb));
  EXPECT_THAT(tokenizer->encode("ab c"), ElementsAre(kTokenAb, ' ', 'c'));  // merges stay within a piece
  EXPECT_THAT(tokenizer->encode(""), IsEmpty());
}

TEST(Tokenizer_ByteLevel, MergesLeadThroughStringsThatAreNoTokens) {
  GgufWriter writer = byte_level_file({{"wxyz", TokenKind::kNormal}});
  writer.set("tokenizer.ggml.merges", std::vector<std::string>{"w x", "y z", "wx yz"});
  const auto tokenizer = tokenizer_of(writer);
  EXPECT_THAT(tokenizer->encode("wxyz"), ElementsAre(kFirstNamedToken));
  EXPECT_THAT(tokenizer->encode("wxy"), ElementsAre('w', 'x', 'y'));
}

TEST(Tokenizer_ByteLevel, WholePieceIsItsTokenWhereMergesAreIgnored) {
  GgufWriter writer = byte_level_file({{"wxyz", TokenKind::kNormal}});
  EXPECT_THAT(tokenizer_of(writer)->encode("wxyz"), ElementsAre('w', 'x', 'y', 'z'));
  writer.set("tokenizer.ggml.pre", "llama-bpe");
  EXPECT_THAT(tokenizer_of(writer)->encode("wxyz"), ElementsAre(kFirstNamedToken));
}

TEST(Tokenizer_ByteLevel, BytesThatTheVocabularyLacksAreUnknown) {
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "gpt2");
  writer.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "<unk>"});
  writer.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 2});
  writer.set("tokenizer.ggml.merges", std::vector<std::string>{});
  EXPECT_THAT(tokenizer_of(writer)->encode("ab"), ElementsAre(0));
  writer.set("tokenizer.ggml.unknown_token_id", uint32_t{1});
  EXPECT_THAT(tokenizer_of(writer)->encode("ab"), ElementsAre(0, 1));
}

TEST(Tokenizer_ByteLevel, UnknownPreTokenizerFallsBackToTheDefault) {
  GgufWriter writer = byte_level_file();
  writer.set("tokenizer.ggml.pre", "no-such-thing");
  EXPECT_THAT(tokenizer_of(writer)->encode("abc"), ElementsAre(kTokenAbc));
}

TEST(Tokenizer_ByteLevel, RefusesVocabulariesOverRawUtf8) {
  GgufWriter writer = byte_level_file();
  writer.set("tokenizer.ggml.pre", "sarvam-moe");
  const auto tokenizer = Tokenizer::create(*vocab_of(writer));
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("sarvam-moe"));
}

TEST(Tokenizer_ByteLevel, RefusesMergesOutsideTheAlphabet) {
  GgufWriter writer = byte_level_file();
  writer.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "中 a"});
  const auto tokenizer = Tokenizer::create(*vocab_of(writer));
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kBadFile);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("tokenizer.ggml.merges[1]"));
}

TEST(Tokenizer_Special, AreParsedAsAsked) {
  const auto tokenizer =
      tokenizer_of(byte_level_file({{"<c>", TokenKind::kControl}, {"<u>", TokenKind::kUserDefined}}));
  const TokenId control = kFirstNamedToken, user = kFirstNamedToken + 1;
  EXPECT_THAT(tokenizer->encode("a<c>b<u>"), ElementsAre('a', control, 'b', user));
  EXPECT_THAT(tokenizer->encode("a<c>b<u>", kPlain), ElementsAre('a', '<', 'c', '>', 'b', user));
  EXPECT_EQ(tokenizer->find("<c>"), control);
  EXPECT_EQ(tokenizer->find("<d>"), kNoToken);
}

TEST(Tokenizer_Special, LongestWinsAndPrefixesOfOthersAreText) {
  const auto tokenizer = tokenizer_of(byte_level_file(
      {{"<a>", TokenKind::kControl}, {"<a><a>", TokenKind::kControl}, {"<a><b", TokenKind::kUserDefined}}));
  const TokenId one = kFirstNamedToken, two = one + 1, user = one + 2;
  EXPECT_THAT(tokenizer->encode("<a><a><a>"), ElementsAre(two, one));
  EXPECT_THAT(tokenizer->encode("<a><b"), ElementsAre(user));
  EXPECT_THAT(tokenizer->encode("<a><c"), ElementsAre(one, '<', 'c'));
  EXPECT_THAT(tokenizer->encode("<a", kPlain), ElementsAre('<', 'a'));
}

TEST(Tokenizer_Special, AFilterDecidesAboutEachPlace) {
  const auto tokenizer = tokenizer_of(byte_level_file(
      {{"<a>", TokenKind::kControl}, {"<a><a>", TokenKind::kControl}, {"<u>", TokenKind::kUserDefined}}));
  const TokenId one = kFirstNamedToken, two = one + 1, user = one + 2;
  const auto all = [](TokenId, size_t, size_t) { return true; };
  EXPECT_THAT(tokenizer->encode_filtered("<a><a>b<u>", all), ElementsAre(two, 'b', user));
  const auto not_two = [&](TokenId id, size_t, size_t) { return id != two; };
  EXPECT_THAT(tokenizer->encode_filtered("<a><a>", not_two), ElementsAre(one, one));
  const auto from_3 = [](TokenId, size_t begin, size_t) { return begin >= 3; };
  EXPECT_THAT(tokenizer->encode_filtered("<a><a><u>", from_3), ElementsAre('<', 'a', '>', one, user));
  const auto none = [](TokenId, size_t, size_t) { return false; };
  EXPECT_THAT(tokenizer->encode_filtered("<u>ab", none), ElementsAre('<', 'u', '>', kTokenAb));
}

TEST(Tokenizer_Special, BosAndEosAreAddedAsTheMetadataSays) {
  GgufWriter writer = byte_level_file({{"<b>", TokenKind::kControl}, {"<e>", TokenKind::kControl}});
  const TokenId bos = kFirstNamedToken, eos = bos + 1;
  writer.set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(bos));
  writer.set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(eos));
  EXPECT_THAT(tokenizer_of(writer)->encode("x"), ElementsAre('x'));
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_eos_token", true);
  EXPECT_THAT(tokenizer_of(writer)->encode("x"), ElementsAre(bos, 'x', eos));
  EXPECT_THAT(tokenizer_of(writer)->encode(""), ElementsAre(bos, eos));
  EXPECT_THAT(tokenizer_of(writer)->encode("x", {.add_special = false}), ElementsAre('x'));
}

TEST(Tokenizer_Special, ControlTokensHaveNoBytesUnlessRendered) {
  const auto tokenizer =
      tokenizer_of(byte_level_file({{"<c>", TokenKind::kControl}, {"<u>", TokenKind::kUserDefined}}));
  const TokenId control = kFirstNamedToken, user = kFirstNamedToken + 1;
  EXPECT_EQ(tokenizer->token_bytes(control), "");
  EXPECT_EQ(tokenizer->token_bytes(control, true), "<c>");
  EXPECT_EQ(tokenizer->token_bytes(user), "<u>");
  EXPECT_EQ(tokenizer->token_bytes(' '), " ");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(user + 1, true), "");
  const std::vector<TokenId> ids = {'a', control, kTokenAbc};
  EXPECT_EQ(tokenizer->decode(ids), "aabc");
  EXPECT_EQ(tokenizer->decode(ids, true), "a<c>abc");
}

constexpr TokenId byte_token(int byte) {
  return 3 + byte;
}

TEST(Tokenizer_SentencePiece, MergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = tokenizer_of(
      sentence_piece_file({{"▁he", -5}, {"▁h", -3}, {"he", -1}, {"ll", -2}, {"o", -9}, {"▁", -4}, {"oo", -8}}));
  const TokenId he = kFirstPiece, ll = kFirstPiece + 3, o = kFirstPiece + 4, space = kFirstPiece + 5,
                oo = kFirstPiece + 6;
  EXPECT_THAT(tokenizer->encode("hello", kPlain), ElementsAre(he, ll, o));
  EXPECT_THAT(tokenizer->encode("ooo", kPlain), ElementsAre(space, oo, o));  // of equal scores the leftmost
  EXPECT_THAT(tokenizer->encode("\xC3\xA9", kPlain), ElementsAre(space, byte_token(0xC3), byte_token(0xA9)));
  EXPECT_THAT(tokenizer->encode("\xFF\n", kPlain), ElementsAre(space, byte_token(0xFF), byte_token('\n')));
  EXPECT_THAT(tokenizer->encode("", kPlain), IsEmpty());
  EXPECT_THAT(tokenizer->encode("o"), ElementsAre(1, space, o));
}

TEST(Tokenizer_SentencePiece, TextNeverMergesIntoASpecialToken) {
  const auto tokenizer = tokenizer_of(sentence_piece_file({{"<", 0}, {"s", 0}, {">", 0}, {"<s", 0}, {"▁", 0}}));
  const TokenId end = kFirstPiece + 2, begin = kFirstPiece + 3, space = kFirstPiece + 4;
  EXPECT_THAT(tokenizer->encode("<s>", kPlain), ElementsAre(space, begin, end));
  EXPECT_THAT(tokenizer->encode("<s>", {.add_special = false}), ElementsAre(1));
}

TEST(Tokenizer_SentencePiece, PrefixesTheStartAndWhatFollowsASpecialToken) {
  GgufWriter writer = sentence_piece_file({{"▁a", -1}, {"a", -2}}, {{"<x>", TokenKind::kControl}});
  const TokenId space_a = kFirstPiece, a = kFirstPiece + 1, x = kFirstPiece + 2;
  const EncodeOptions options = {.add_special = false};
  EXPECT_THAT(tokenizer_of(writer)->encode("a<x>a", options), ElementsAre(space_a, x, space_a));
  writer.set("tokenizer.ggml.add_space_prefix", false);
  EXPECT_THAT(tokenizer_of(writer)->encode("a<x>a a", options), ElementsAre(a, x, a, space_a));
}

TEST(Tokenizer_SentencePiece, DecodeDropsTheSpaceItAdded) {
  GgufWriter writer = sentence_piece_file({{"▁a", -1}, {"b▁c", -2}});
  const std::vector<TokenId> ids = {1, kFirstPiece, kFirstPiece, kFirstPiece + 1, byte_token('\n')};
  EXPECT_EQ(tokenizer_of(writer)->decode(ids), "a ab c\n");
  EXPECT_EQ(tokenizer_of(writer)->decode(std::vector<TokenId>{byte_token('x'), kFirstPiece}), "x a");
  writer.set("tokenizer.ggml.add_space_prefix", false);
  EXPECT_EQ(tokenizer_of(writer)->decode(ids), " a ab c\n");
}

TEST(Tokenizer_SentencePiece, WithoutByteTokensIsUnknown) {
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "a"});
  writer.set("tokenizer.ggml.scores", std::vector<float>{0, 0});
  writer.set("tokenizer.ggml.token_type", std::vector<int32_t>{2, 1});
  writer.set("tokenizer.ggml.add_space_prefix", false);
  EXPECT_THAT(tokenizer_of(writer)->encode("aé"), ElementsAre(1, 0, 0));
}

// The bundled model's vocabulary under every pre-tokenizer.
class EveryPreTokenizer : public ::testing::TestWithParam<PreTokenizer> {
 protected:
  static std::unique_ptr<Tokenizer> make() {
    static const Vocab vocab = [] {
      Result<GgufFile> file = GgufFile::open(testing::bundled_model_path());
      SPATE_CHECK(file.ok(), "{}", file.error().message);
      return *Vocab::from_gguf(*file);
    }();
    Vocab copy = vocab;
    copy.pre = testing::first_name(GetParam());
    return std::move(*Tokenizer::create(std::move(copy)));
  }
};

TEST_P(EveryPreTokenizer, RandomBytesComeBack) {
  const auto tokenizer = make();
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    const int alphabet = i % 3;  // any byte; ASCII; bytes that begin and continue characters
    for (size_t n = random() % 64; n > 0; --n) {
      const auto any = static_cast<char>(random());
      text += alphabet == 0 ? any : alphabet == 1 ? static_cast<char>(any & 0x7F) : static_cast<char>(any | 0x80);
    }
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kPlain)), text);
  }
}

// Takes some 50 ms each; quadratic merging or cutting would take minutes.
TEST_P(EveryPreTokenizer, LongRunsAreFast) {
  const auto tokenizer = make();
  for (const std::string_view unit : {"a", " ", "\n", "1", "!", "\uFFFD", "\xFF", "中"}) {
    std::string text;
    while (text.size() < 256 * 1024) text += unit;
    const std::clock_t start = std::clock();
    const std::vector<TokenId> ids = tokenizer->encode(text);
    EXPECT_LT(std::clock() - start, 3 * CLOCKS_PER_SEC) << "unit '" << unit << "'";
    EXPECT_EQ(tokenizer->decode(ids), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, EveryPreTokenizer, ::testing::ValuesIn(pre_tokenizers()),
                         [](const auto& test) { return testing::test_name(testing::first_name(test.param)); });

std::string pushed(StreamDecoder& decoder, std::initializer_list<int> ids) {
  std::string text;
  for (const int id : ids) text += decoder.push(id);
  return text;
}

TEST(StreamDecoder, HoldsBackPartsOfCharacters) {
  const auto tokenizer = tokenizer_of(byte_level_file());
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push(0xB8), "");
  EXPECT_EQ(decoder.push(0xAD), "中");
  EXPECT_EQ(decoder.push(kTokenAbc), "abc");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, ReplacesWhatNothingCanComplete) {
  const auto tokenizer = tokenizer_of(byte_level_file());
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(pushed(decoder, {0xE4, 'a'}), "\uFFFDa");
  EXPECT_EQ(decoder.push(0xFF), "\uFFFD");
  EXPECT_EQ(decoder.push(0x80), "\uFFFD");
  EXPECT_EQ(pushed(decoder, {0xE0, 0x80}), "\uFFFD\uFFFD");  // overlong
  EXPECT_EQ(pushed(decoder, {0xF0, 0x9F}), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(decoder.push('x'), "x");
}

TEST(StreamDecoder, GivesTheWholeTextInWholeCharacters) {
  const auto tokenizer = tokenizer_of(byte_level_file());
  std::mt19937 random(11);
  for (int i = 0; i < 500; ++i) {
    std::string bytes, text;
    StreamDecoder decoder(*tokenizer);
    const char* parts[] = {"a", "é", "中", "😀", "\xE4", "\xF0\x9F", "\x80", "\xFF", "\xED\xA0\x80"};
    for (int n = 0; n < 12; ++n) bytes += parts[random() % std::size(parts)];
    for (const char byte : bytes) {
      const std::string part = decoder.push(static_cast<uint8_t>(byte));
      EXPECT_TRUE(is_valid_utf8(part));
      text += part;
    }
    text += decoder.finish();
    EXPECT_EQ(text, sanitize_utf8(bytes));
  }
}

TEST(StreamDecoder, DropsTheFirstSpaceOfATextOnly) {
  const auto tokenizer = tokenizer_of(sentence_piece_file({{"▁a", -1}}, {{"<x>", TokenKind::kControl}}));
  StreamDecoder begins(*tokenizer, false, true), goes_on(*tokenizer), rendered(*tokenizer, true);
  EXPECT_EQ(pushed(begins, {1, kFirstPiece, kFirstPiece}), "a a");
  EXPECT_EQ(pushed(goes_on, {kFirstPiece}), " a");
  EXPECT_EQ(pushed(rendered, {kFirstPiece + 1}), "<x>");
}

}  // namespace
}  // namespace spate
