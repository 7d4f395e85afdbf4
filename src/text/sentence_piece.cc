#include "text/sentence_piece.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/merge_queue.h"

namespace spate {

SentencePieceTokenizer::SentencePieceTokenizer(Vocab vocab) : Tokenizer(std::move(vocab)) {
  byte_tokens_.fill(kNoToken);
  for (TokenId id = 0; id < vocab_.size(); ++id) {
    const std::string& token = vocab_.tokens[id];
    switch (vocab_.kinds[id]) {
      case TokenKind::kByte:
        byte_tokens_[static_cast<uint8_t>(token_bytes(id)[0])] = id;
        break;
      case TokenKind::kNormal:
      case TokenKind::kUnused:
        pieces_[token] = id;
        longest_piece_bytes_ = std::max(longest_piece_bytes_, token.size());
        break;
      case TokenKind::kUnknown:
      case TokenKind::kControl:
      case TokenKind::kUserDefined:
        break;  // found in the text as a whole, never merged to
    }
  }
}

void SentencePieceTokenizer::encode_plain(std::string_view text, bool first, std::vector<TokenId>& ids) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2);
  if (first && vocab_.add_space_prefix) escaped += kStoredSpace;
  for (const char byte : text) {
    if (byte == ' ')
      escaped += kStoredSpace;
    else
      escaped += byte;
  }

  // The symbol of a stretch is its token, or kNoToken for a character that is none.
  const std::string_view all = escaped;
  const auto token_of = [&](size_t begin, size_t end) {
    if (end - begin > longest_piece_bytes_) return kNoToken;
    const auto piece = pieces_.find(all.substr(begin, end - begin));
    return piece == pieces_.end() ? kNoToken : piece->second;
  };
  std::vector<MergeSymbol> symbols;
  symbols.reserve(all.size());
  for (size_t at = 0; at < all.size();) {
    const size_t end = at + decode_utf8(all.substr(at)).n_bytes;
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(end), token_of(at, end), index - 1, index + 1});
    at = end;
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  merge_symbols<float>(symbols, [&](const MergeSymbol& left, const MergeSymbol& right, auto& candidate) {
    const TokenId id = token_of(left.begin, right.end);
    if (id == kNoToken) return false;
    candidate.priority = -vocab_.scores[id];
    candidate.result = id;
    return true;
  });

  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    if (symbols[i].symbol != kNoToken)
      ids.push_back(symbols[i].symbol);
    else
      append_bytes(all.substr(symbols[i].begin, symbols[i].end - symbols[i].begin), ids);
  }
}

void SentencePieceTokenizer::append_bytes(std::string_view bytes, std::vector<TokenId>& ids) const {
  for (const char byte : bytes) {
    const TokenId id = byte_tokens_[static_cast<uint8_t>(byte)];
    if (id != kNoToken)
      ids.push_back(id);
    else if (vocab_.unknown != kNoToken)
      ids.push_back(vocab_.unknown);
  }
}

}  // namespace spate
