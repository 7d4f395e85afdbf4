// SentencePiece BPE as GGUF carries it (tokenizer.ggml.model = llama): characters are merged into the token with the
// best score; what is no token becomes bytes. Spaces are stored as U+2581. (Kudo and Richardson 2018.)
#pragma once

#include <array>
#include <unordered_map>

#include "text/tokenizer.h"

namespace spate {

inline constexpr std::string_view kStoredSpace = "\xE2\x96\x81";  // U+2581

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(Vocab vocab);

 private:
  void encode_plain(std::string_view text, bool first, std::vector<TokenId>& ids) const override;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& ids) const;

  std::unordered_map<std::string_view, TokenId> pieces_;  // views into vocab_.tokens; tokens that text can become
  size_t longest_piece_bytes_ = 0;
  std::array<TokenId, 256> byte_tokens_;
};

}  // namespace spate
