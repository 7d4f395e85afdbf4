#include "text/test_vocab.h"

#include <fmt/core.h>

#include "text/byte_alphabet.h"

namespace spate::testing {

namespace {

void set_tokens(GgufWriter& writer, const std::vector<std::string>& tokens, const std::vector<int32_t>& kinds) {
  writer.set("general.architecture", "test");
  writer.set("tokenizer.ggml.tokens", tokens);
  writer.set("tokenizer.ggml.token_type", kinds);
}

}  // namespace

GgufWriter byte_level_file(const std::vector<NamedToken>& more) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(printable_of_bytes(std::string(1, static_cast<char>(byte))));
  tokens.insert(tokens.end(), {"ab", "abc"});
  std::vector<int32_t> kinds(tokens.size(), static_cast<int32_t>(TokenKind::kNormal));
  for (const NamedToken& token : more) {
    tokens.push_back(token.name);
    kinds.push_back(static_cast<int32_t>(token.kind));
  }
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "gpt2");
  writer.set("tokenizer.ggml.pre", "gpt-2");
  set_tokens(writer, tokens, kinds);
  writer.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "ab c"});
  return writer;
}

GgufWriter sentence_piece_file(const std::vector<ScoredPiece>& pieces, const std::vector<NamedToken>& more) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds = {2, 3, 3};
  std::vector<float> scores(3, 0.0f);
  const auto add = [&](std::string token, TokenKind kind, float score) {
    tokens.push_back(std::move(token));
    kinds.push_back(static_cast<int32_t>(kind));
    scores.push_back(score);
  };
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), TokenKind::kByte, 0.0f);
  for (const ScoredPiece& piece : pieces) add(piece.piece, TokenKind::kNormal, piece.score);
  for (const NamedToken& token : more) add(token.name, token.kind, 0.0f);
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "llama");
  set_tokens(writer, tokens, kinds);
  writer.set("tokenizer.ggml.scores", scores);
  return writer;
}

Result<Vocab> vocab_of(const GgufWriter& writer) {
  const TemporaryFolder folder;
  SPATE_TRY_VOID(writer.write(folder.path("vocab.gguf")));
  SPATE_TRY(const GgufFile file, GgufFile::open(folder.path("vocab.gguf")));
  return Vocab::from_gguf(file);
}

}  // namespace spate::testing
