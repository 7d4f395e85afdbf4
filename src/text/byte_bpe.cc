#include "text/byte_bpe.h"

#include "base/log.h"
#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/merge_queue.h"

namespace spate {

namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> ByteBpeTokenizer::create(Vocab vocab) {
  if (is_raw_utf8_pre_tokenizer(vocab.pre))
    return Error::unsupported(
        fmt::format("tokenizer.ggml.pre {} is BPE over raw UTF-8, which spate does not read", quote(vocab.pre)));
  const PreTokenizer* pre = find_pre_tokenizer(vocab.pre);
  if (pre == nullptr) {
    log::warn("unknown tokenizer.ggml.pre {}: using the default pre-tokenizer, text may be cut differently",
              quote(vocab.pre));
    pre = find_pre_tokenizer("default");
  }
  std::unique_ptr<ByteBpeTokenizer> tokenizer(new ByteBpeTokenizer(std::move(vocab), *pre));
  SPATE_TRY_VOID(tokenizer->index_merges());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

ByteBpeTokenizer::ByteBpeTokenizer(Vocab vocab, const PreTokenizer& pre)
    : Tokenizer(std::move(vocab)), ignore_merges_(pre.ignore_merges), splitter_(pre), n_symbols_(vocab_.size()) {
  symbols_.reserve(vocab_.tokens.size());
  for (TokenId id = 0; id < vocab_.size(); ++id) {
    // A control or user-defined token is found in the text as a whole; ordinary text never becomes one by merging.
    const TokenKind kind = vocab_.kinds[id];
    if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown) continue;
    if (std::optional<std::string> bytes = bytes_of_printable(vocab_.tokens[id])) symbols_[std::move(*bytes)] = id;
  }
  for (int byte = 0; byte < 256; ++byte) byte_symbols_[byte] = symbol_of(std::string(1, static_cast<char>(byte)));
}

ByteBpeTokenizer::Symbol ByteBpeTokenizer::symbol_of(std::string_view bytes) {
  const auto [entry, added] = symbols_.try_emplace(std::string(bytes), n_symbols_);
  if (added) ++n_symbols_;
  return entry->second;
}

Result<void> ByteBpeTokenizer::index_merges() {
  merges_.reserve(vocab_.merges.size());
  for (size_t rank = 0; rank < vocab_.merges.size(); ++rank) {
    const std::string_view merge = vocab_.merges[rank];
    const size_t space = merge.find(' ');
    const auto left = bytes_of_printable(merge.substr(0, space));
    const auto right = space == std::string_view::npos ? std::nullopt : bytes_of_printable(merge.substr(space + 1));
    if (!left || !right || left->empty() || right->empty())
      return Error{ErrorCode::kBadFile, fmt::format("tokenizer.ggml.merges[{}] is no pair of byte-level tokens", rank)};
    const Symbol result = symbol_of(*left + *right);
    merges_.try_emplace(pair_key(symbol_of(*left), symbol_of(*right)), Merge{static_cast<int32_t>(rank), result});
  }
  vocab_.merges = {};  // a third of the vocabulary's memory, and indexed now
  return {};
}

void ByteBpeTokenizer::encode_plain(std::string_view text, bool, std::vector<TokenId>& ids) const {
  for (const std::string_view piece : splitter_.split(text)) encode_piece(piece, ids);
}

void ByteBpeTokenizer::encode_piece(std::string_view piece, std::vector<TokenId>& ids) const {
  if (ignore_merges_) {
    const auto whole = symbols_.find(std::string(piece));
    if (whole != symbols_.end() && whole->second < vocab_.size()) {
      ids.push_back(whole->second);
      return;
    }
  }
  std::vector<MergeSymbol> symbols;
  symbols.reserve(piece.size());
  const auto n = static_cast<int32_t>(piece.size());
  for (int32_t i = 0; i < n; ++i)
    symbols.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(i + 1),
                       byte_symbols_[static_cast<uint8_t>(piece[i])], i - 1, i + 1 < n ? i + 1 : -1});

  merge_symbols<int32_t>(symbols, [&](const MergeSymbol& left, const MergeSymbol& right, auto& candidate) {
    const auto merge = merges_.find(pair_key(left.symbol, right.symbol));
    if (merge == merges_.end()) return false;
    candidate.priority = merge->second.rank;
    candidate.result = merge->second.result;
    return true;
  });

  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    if (symbols[i].symbol < vocab_.size())
      ids.push_back(symbols[i].symbol);
    else
      append_bytes(piece.substr(symbols[i].begin, symbols[i].end - symbols[i].begin), ids);
  }
}

// Bytes that ended in no token: one by one; a byte that the vocabulary lacks is the unknown token, if there is one.
void ByteBpeTokenizer::append_bytes(std::string_view bytes, std::vector<TokenId>& ids) const {
  for (const char byte : bytes) {
    const Symbol symbol = byte_symbols_[static_cast<uint8_t>(byte)];
    if (symbol < vocab_.size())
      ids.push_back(symbol);
    else if (vocab_.unknown != kNoToken)
      ids.push_back(vocab_.unknown);
  }
}

}  // namespace spate
