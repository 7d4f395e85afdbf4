// spate tokenize, as a program.
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/subprocess.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using std::string_literals::operator""s;

std::vector<int> ids_of(std::string_view text, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{"tokenize", bundled_model_path(), "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Finished finished = run_spate(arguments, text);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  return json::parse(finished.out).at("ids").get<std::vector<int>>();
}

Finished decode(std::string_view ids, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{"tokenize", bundled_model_path(), "--decode"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_spate(arguments, ids);
}

TEST(Tokenize, GoldenPrompts_GiveTheGoldenIds) {
  std::ifstream file(fixture_path("demo/golden-q4_k_m.json"));
  const json golden = json::parse(file);
  ASSERT_FALSE(golden.at("prompts").empty());
  for (const json& prompt : golden.at("prompts"))
    EXPECT_EQ(ids_of(prompt.at("prompt").get<std::string>()), prompt.at("ids").get<std::vector<int>>())
        << prompt.at("prompt");
}

TEST(Tokenize, AnyBytes_ComeBackUnchanged) {
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte.push_back(static_cast<char>(byte));
  for (const std::string& text : {""s, "one\r\ntwo\n"s, "a\0b\0\0"s, every_byte, "\xe2\x82"s, "\xff\xfe caf\xc3\xa9"s,
                                  "<|im_start|>user\nhi<|im_end|>"s}) {
    const Finished ids = run_spate({"tokenize", bundled_model_path(), "--no-bos"}, text);
    ASSERT_EQ(ids.exit_code, 0) << ids.err;
    const Finished back = decode(ids.out);
    EXPECT_EQ(back.exit_code, 0) << back.err;
    EXPECT_EQ(back.out, text) << json(text).dump(-1, ' ', true, json::error_handler_t::replace);
  }
}

TEST(Tokenize, NoSpecial_ReadsSpecialTokensAsPlainText) {
  const auto special = ids_of("<|im_end|>"), plain = ids_of("<|im_end|>", {"--no-special"});
  EXPECT_EQ(special.size(), 1u);
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(decode(json(plain).dump()).out, "<|im_end|>");
  EXPECT_EQ(decode(json(special).dump(), {"--no-special"}).out, "");
}

TEST(Tokenize, Decode_TakesIdsHoweverTheyAreSeparated) {
  const std::string text = "The Mole had been working";
  const auto ids = ids_of(text);
  ASSERT_GT(ids.size(), 2u);
  std::string words, commas;
  for (int id : ids) {
    words += std::to_string(id) + "\t\n ";
    commas += std::to_string(id) + ", ";
  }
  for (const std::string& input : {words, commas, json(ids).dump(), json{{"ids", ids}}.dump(2)})
    EXPECT_EQ(decode(input).out, text) << input;
  EXPECT_EQ(json::parse(decode(words, {"--json"}).out).at("text"), text);
  EXPECT_EQ(decode("").out, "");
}

TEST(Tokenize, DecodeOfWhatIsNoId_IsAUsageErrorThatNamesIt) {
  for (const auto& [input, part] :
       std::vector<std::pair<std::string, std::string>>{{"12 twelve", "'twelve'"},
                                                        {"1 2 99999999", "99999999"},
                                                        {"-1", "-1"},
                                                        {"99999999999999999999", "99999999999999999999"},
                                                        {"[1, 2.5]", "2.5 is no token id"},
                                                        {"[1, 2", "JSON"},
                                                        {std::string(1 << 20, '['), "nested"},
                                                        {"{\"ids\": [[[[1]]]]}", "[[[1]]] is no token id"},
                                                        {"{\"tokens\": [1]}", "ids"}}) {
    const Finished finished = decode(input);
    EXPECT_EQ(finished.exit_code, 2) << input;
    EXPECT_THAT(finished.err, HasSubstr(part)) << input;
    EXPECT_EQ(finished.out, "") << input;
  }
}

TEST(Tokenize, WithoutAModel_UsesTheBundledOne) {
  const Finished finished = run_spate({"tokenize", "--json"}, "the river");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(json::parse(finished.out).at("ids").get<std::vector<int>>(), ids_of("the river"));
}

TEST(Tokenize, AVocabularyOnlyFile_Works) {
  SPATE_REQUIRE_SHARED("vocab/llama-bpe.gguf");
  const Finished ids =
      run_spate({"tokenize", shared_path("vocab/llama-bpe.gguf"), "--json", "--no-bos"}, "Hello world");
  ASSERT_EQ(ids.exit_code, 0) << ids.err;
  const Finished text = run_spate({"tokenize", shared_path("vocab/llama-bpe.gguf"), "--decode"}, ids.out);
  EXPECT_EQ(text.out, "Hello world");
}

}  // namespace
}  // namespace spate::testing
