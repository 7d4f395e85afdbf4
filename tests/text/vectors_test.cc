// Ids that other programs gave: tests/fixtures/tokenizers_demo.json always; the shared vocabularies where they are.
#include <fstream>
#include <gmock/gmock.h>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "text/pre_tokenizer_cases.h"
#include "text/tokenizer.h"

#include "support/test_data.h"

namespace spate {
namespace {

using ::testing::ElementsAreArray;

std::unique_ptr<Tokenizer> tokenizer_from(const std::string& path) {
  Result<GgufFile> file = GgufFile::open(path);
  SPATE_CHECK(file.ok(), "{}", file.error().message);
  Result<Vocab> vocab = Vocab::from_gguf(*file);
  SPATE_CHECK(vocab.ok(), "{}", vocab.error().message);
  return std::move(*Tokenizer::create(std::move(*vocab)));
}

nlohmann::json json_from(const std::string& path) {
  Result<std::string> text = read_file(path);
  SPATE_CHECK(text.ok(), "{}", text.error().message);
  return nlohmann::json::parse(*text);
}

// Special tokens parsed, none added; and back.
void expect_column(const Tokenizer& tokenizer, const nlohmann::json& golden, const char* column) {
  ASSERT_EQ(golden.at("strings").size(), golden.at(column).size());
  ASSERT_GE(golden.at("strings").size(), 300u);
  for (size_t i = 0; i < golden.at("strings").size(); ++i) {
    const auto text = golden.at("strings")[i].get<std::string>();
    const std::vector<TokenId> ids = tokenizer.encode(text, {.add_special = false});
    EXPECT_THAT(ids, ElementsAreArray(golden.at(column)[i].get<std::vector<TokenId>>()))
        << "text " << i << ": " << text;
    EXPECT_EQ(tokenizer.decode(ids, true), text);
  }
}

TEST(Vectors, BundledModel) {
  const auto tokenizer = tokenizer_from(testing::bundled_model_path());
  expect_column(*tokenizer, json_from(testing::fixture_path("tokenizers_demo.json")), "demo");
}

TEST(Vectors, SharedGoldenColumns) {
  SPATE_REQUIRE_SHARED("golden/tokenizers/tokenizers.json");
  const nlohmann::json golden = json_from(testing::shared_path("golden/tokenizers/tokenizers.json"));
  for (const char* name : {"qwen2", "llama-bpe"})
    expect_column(*tokenizer_from(testing::shared_path("vocab/" + std::string(name) + ".gguf")), golden, name);
  expect_column(*tokenizer_from(testing::bundled_model_path()), golden, "demo");
}

std::vector<std::string> texts_from(const std::string& path) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  const Result<std::string> all = read_file(path);
  SPATE_CHECK(all.ok(), "{}", all.error().message);
  std::vector<std::string> texts;
  size_t begin = 0;
  for (size_t end; (end = all->find(kSeparator, begin)) != std::string::npos; begin = end + kSeparator.size())
    texts.push_back(all->substr(begin, end - begin));
  texts.push_back(all->substr(begin));
  return texts;
}

class SharedVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedVocabulary, GivesItsVectors) {
  const std::string base = "vocab/" + std::string(GetParam());
  SPATE_REQUIRE_SHARED(base + ".gguf");
  const auto tokenizer = tokenizer_from(testing::shared_path(base + ".gguf"));
  const std::vector<std::string> texts = texts_from(testing::shared_path(base + ".inp"));
  ASSERT_EQ(texts.size(), 47u);
  std::ifstream lines(testing::shared_path(base + ".out"));
  for (const std::string& text : texts) {
    std::string line;
    std::getline(lines, line);  // none for the last text, which is empty
    std::istringstream numbers(line);
    const std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
    EXPECT_EQ(expected.empty(), text.empty());
    for (const bool parse_special : {false, true})
      EXPECT_THAT(tokenizer->encode(text, {parse_special, false}), ElementsAreArray(expected)) << "text: " << text;
    EXPECT_EQ(tokenizer->decode(expected), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, SharedVocabulary,
                         ::testing::Values("gpt-2", "falcon", "llama-bpe", "llama-spm", "mpt", "qwen2", "refact",
                                           "starcoder"),
                         [](const auto& test) { return testing::test_name(test.param); });

}  // namespace
}  // namespace spate
