#include "text/tokenizer.h"

#include <charconv>

#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/byte_bpe.h"
#include "text/sentence_piece.h"
#include "text/special_tokens.h"

namespace spate {

namespace {

std::string unescape_spaces(std::string_view stored) {
  std::string bytes;
  bytes.reserve(stored.size());
  while (!stored.empty()) {
    if (stored.starts_with(kStoredSpace)) {
      bytes += ' ';
      stored.remove_prefix(kStoredSpace.size());
    } else {
      bytes += stored[0];
      stored.remove_prefix(1);
    }
  }
  return bytes;
}

// "<0x0A>", whose form Vocab has validated.
char byte_of(std::string_view token) {
  uint8_t byte = 0;
  std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return static_cast<char>(byte);
}

std::string bytes_of(const Vocab& vocab, TokenId id) {
  const std::string& stored = vocab.tokens[id];
  switch (vocab.kinds[id]) {
    case TokenKind::kControl:
    case TokenKind::kUnknown:
    case TokenKind::kUserDefined:
      return stored;
    case TokenKind::kByte:
      return std::string(1, byte_of(stored));
    case TokenKind::kNormal:
    case TokenKind::kUnused:
      break;
  }
  if (vocab.model == VocabModel::kSentencePiece) return unescape_spaces(stored);
  return bytes_of_printable(stored).value_or(stored);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Vocab vocab) {
  SPATE_CHECK(vocab.kinds.size() == vocab.tokens.size(), "{} kinds of {} tokens", vocab.kinds.size(), vocab.size());
  SPATE_CHECK(vocab.model != VocabModel::kSentencePiece || vocab.scores.size() == vocab.tokens.size(),
              "{} scores of {} tokens", vocab.scores.size(), vocab.size());
  switch (vocab.model) {
    case VocabModel::kByteBpe:
      return ByteBpeTokenizer::create(std::move(vocab));
    case VocabModel::kSentencePiece:
      return std::unique_ptr<Tokenizer>(std::make_unique<SentencePieceTokenizer>(std::move(vocab)));
  }
  SPATE_CHECK(false, "no such vocabulary model");
}

Tokenizer::Tokenizer(Vocab vocab) : vocab_(std::move(vocab)), special_(std::make_unique<SpecialTokens>(vocab_)) {
  offsets_.reserve(vocab_.tokens.size() + 1);
  by_name_.reserve(vocab_.tokens.size());
  for (TokenId id = 0; id < vocab_.size(); ++id) {
    offsets_.push_back(bytes_.size());
    bytes_ += bytes_of(vocab_, id);
    by_name_[vocab_.tokens[id]] = id;
  }
  offsets_.push_back(bytes_.size());
}

Tokenizer::~Tokenizer() = default;

// find_special(at): the first special token at or after that place.
template <typename Find>
void Tokenizer::append_ids(std::string_view text, Find&& find_special, std::vector<TokenId>& ids) const {
  bool first = true;
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Match special = find_special(at);
    if (special.begin > at) {
      encode_plain(text.substr(at, special.begin - at), first, ids);
      first = false;
    }
    if (special.id != kNoToken) {
      ids.push_back(special.id);
      first = true;
    }
    at = special.end;
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocab_.add_bos) ids.push_back(vocab_.bos);
  append_ids(
      text, [&](size_t at) { return special_->find(text, at, options.parse_special); }, ids);
  if (options.add_special && vocab_.add_eos) ids.push_back(vocab_.eos);
  return ids;
}

std::vector<TokenId> Tokenizer::encode_filtered(std::string_view text, const SpecialFilter& may_become) const {
  std::vector<TokenId> ids;
  append_ids(
      text, [&](size_t at) { return special_->find(text, at, may_become); }, ids);
  return ids;
}

std::string_view Tokenizer::token_bytes(TokenId id, bool render_special) const {
  if (id < 0 || id >= vocab_.size()) return {};
  const bool hidden = vocab_.kinds[id] == TokenKind::kControl || vocab_.kinds[id] == TokenKind::kUnknown;
  if (hidden && !render_special) return {};
  return std::string_view(bytes_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
}

std::string_view Tokenizer::text_bytes(TokenId id, bool render_special, bool& at_start) const {
  std::string_view bytes = token_bytes(id, render_special);
  if (bytes.empty()) return bytes;
  const bool is_text = vocab_.kinds[id] == TokenKind::kNormal || vocab_.kinds[id] == TokenKind::kUnused;
  if (at_start && is_text && vocab_.add_space_prefix && bytes[0] == ' ') bytes.remove_prefix(1);
  at_start = false;
  return bytes;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool render_special) const {
  std::string text;
  bool at_start = true;
  for (const TokenId id : ids) text += text_bytes(id, render_special, at_start);
  return text;
}

TokenId Tokenizer::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? kNoToken : found->second;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool render_special, bool starts_text)
    : tokenizer_(tokenizer), render_special_(render_special), at_start_(starts_text) {}

std::string StreamDecoder::push(TokenId id) {
  pending_ += tokenizer_.text_bytes(id, render_special_, at_start_);
  const size_t complete = complete_utf8_prefix(pending_);
  std::string text = sanitize_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = sanitize_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace spate
