#include "base/utf8.h"

#include <gtest/gtest.h>
#include <vector>

namespace spate {
namespace {

struct Invalid {
  std::string_view bytes;
  int n_bytes;  // of the first sequence, to be replaced by one U+FFFD
};

TEST(Utf8, AppendThenDecode_EveryScalarValue_IsTheIdentity) {
  for (char32_t codepoint = 0; codepoint < 0x110000; ++codepoint) {
    if (codepoint >= 0xD800 && codepoint <= 0xDFFF) continue;
    std::string bytes;
    append_utf8(bytes, codepoint);
    const DecodedUtf8 decoded = decode_utf8(bytes);
    ASSERT_TRUE(decoded.valid) << std::hex << static_cast<uint32_t>(codepoint);
    ASSERT_EQ(decoded.codepoint, codepoint);
    ASSERT_EQ(decoded.n_bytes, static_cast<int>(bytes.size()));
    ASSERT_EQ(bytes.size(), codepoint < 0x80 ? 1u : codepoint < 0x800 ? 2u : codepoint < 0x10000 ? 3u : 4u);
  }
}

TEST(Utf8, Append_KnownCharacters_GivesTheBytesOfTheStandard) {
  const auto bytes_of = [](char32_t codepoint) {
    std::string bytes;
    append_utf8(bytes, codepoint);
    return bytes;
  };
  EXPECT_EQ(bytes_of(0x24), "\x24");
  EXPECT_EQ(bytes_of(0xA2), "\xC2\xA2");
  EXPECT_EQ(bytes_of(0x20AC), "\xE2\x82\xAC");
  EXPECT_EQ(bytes_of(0x10348), "\xF0\x90\x8D\x88");
}

TEST(Utf8Death, Append_SurrogateOrBeyondUnicode_IsOurBug) {
  std::string out;
  EXPECT_DEATH(append_utf8(out, 0xD800), "U\\+D800");
  EXPECT_DEATH(append_utf8(out, 0x110000), "U\\+110000");
}

TEST(Utf8, Decode_InvalidSequences_ConsumesTheLongestPrefixThatCouldBegin) {
  const Invalid cases[] = {
      {"\x80", 1},              // continuation without a lead
      {"\xBF\x80", 1},          // two of them: one at a time
      {"\xC0\xAF", 1},          // overlong '/'
      {"\xC1\xBF", 1},          // overlong U+007F
      {"\xE0\x80\xAF", 1},      // overlong in three bytes: the second cannot follow E0
      {"\xE0\x9F\xBF", 1},      // overlong U+07FF
      {"\xF0\x80\x80\xAF", 1},  // overlong in four
      {"\xF0\x8F\xBF\xBF", 1},  // overlong U+FFFF
      {"\xED\xA0\x80", 1},      // surrogate U+D800
      {"\xED\xBF\xBF", 1},      // surrogate U+DFFF
      {"\xF4\x90\x80\x80", 1},  // U+110000
      {"\xF5\x80\x80\x80", 1},  // a lead that no character has
      {"\xF8\x88\x80\x80\x80", 1},
      {"\xFE", 1},
      {"\xFF", 1},
      {"\xC2", 1},      // cut off
      {"\xC2\x41", 1},  // cut off by an ASCII character
      {"\xE2\x82", 2},  // cut off after two of three
      {"\xE2\x82\x41", 2},
      {"\xF0\x9F\x98", 3},  // after three of four
      {"\xF0\x9F\x98\x41", 3},
      {"\xF0\x9F\xC2\xA2", 2},  // by another character
  };
  for (const Invalid& c : cases) {
    const DecodedUtf8 decoded = decode_utf8(c.bytes);
    EXPECT_FALSE(decoded.valid) << quote(c.bytes);
    EXPECT_EQ(decoded.codepoint, kReplacementCharacter) << quote(c.bytes);
    EXPECT_EQ(decoded.n_bytes, c.n_bytes) << quote(c.bytes);
    EXPECT_FALSE(is_valid_utf8(c.bytes)) << quote(c.bytes);
  }
}

TEST(Utf8, Decode_EveryTwoByteSequence_AgreesWithTheTableOfRfc3629) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const char bytes[2] = {static_cast<char>(a), static_cast<char>(b)};
      const bool ascii = a < 0x80 && b < 0x80;
      const bool two = a >= 0xC2 && a <= 0xDF && b >= 0x80 && b <= 0xBF;
      ASSERT_EQ(is_valid_utf8({bytes, 2}), ascii || two) << a << " " << b;
    }
  }
}

TEST(Utf8, IsValid_BoundariesOfEachLength_AreAccepted) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8(std::string_view("\0", 1)));
  for (const char* text : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(is_valid_utf8(text)) << quote(text);
}

TEST(Utf8, CompletePrefix_TextCutAnywhere_KeepsWholeCharactersOnly) {
  const std::string text = "a\xC2\xA2\xE2\x82\xAC\xF0\x9F\x98\x80z";
  const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
  for (size_t n = 0; n <= text.size(); ++n) EXPECT_EQ(complete_utf8_prefix(text.substr(0, n)), expected[n]) << n;
}

TEST(Utf8, CompletePrefix_InvalidTail_CountsAsComplete) {
  for (std::string_view text : {"a\x80", "a\xFF", "\xC0", "\xE0\x80", "\xED\xA0", "\xF4\x90", "\x80\x80\x80\x80",
                                "\xE2\xFF", "\xF0\x9F\xFF", "\xC2\xA2\xA2"})
    EXPECT_EQ(complete_utf8_prefix(text), text.size()) << quote(text);
  EXPECT_EQ(complete_utf8_prefix("\xFF\xE2\x82"), 1u);
  EXPECT_EQ(complete_utf8_prefix("\xE2\xE2\x82"), 1u);
}

TEST(Utf8, Sanitize_InvalidBytes_BecomeReplacementCharacters) {
  EXPECT_EQ(sanitize_utf8("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(sanitize_utf8("a\xFF"
                          "b"),
            "a\xEF\xBF\xBD"
            "b");
  // Unicode, "U+FFFD Substitution of Maximal Subparts", table 3-8.
  EXPECT_EQ(sanitize_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
            "b\xEF\xBF\xBD"
            "c\xEF\xBF\xBD\xEF\xBF\xBD"
            "d");
}

TEST(Utf8, Quote_HostileText_StaysOnOneLineAndShort) {
  EXPECT_EQ(quote("blk.0.attn_q.weight"), "'blk.0.attn_q.weight'");
  EXPECT_EQ(quote("caf\xC3\xA9"), "'caf\xC3\xA9'");
  EXPECT_EQ(quote("a\nb\x1B[2J\x7F"), "'a\\x0ab\\x1b[2J\\x7f'");
  EXPECT_EQ(quote("\xFF\xC2\x9B"), "'\\xff\\xc2\\x9b'");
  EXPECT_EQ(quote("\xE2\x80\xA8"), "'\\xe2\\x80\\xa8'");
  EXPECT_EQ(quote(std::string_view("\0", 1)), "'\\x00'");
  EXPECT_EQ(quote(std::string(1000, 'x')), "'" + std::string(80, 'x') + "...'");
  EXPECT_EQ(quote("abcdef", 3), "'abc...'");
}

}  // namespace
}  // namespace spate
