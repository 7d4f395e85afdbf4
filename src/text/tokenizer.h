// Text to token ids and back.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "text/vocab.h"

namespace spate {

class SpecialTokens;

struct EncodeOptions {
  bool parse_special = true;  // "<|im_end|>" in the text becomes that token; otherwise it is plain text
  bool add_special = true;    // BOS and EOS as the vocabulary's metadata says
};

// Whether the bytes [begin, end) of a text, which spell the special token `id`, become that token.
using SpecialFilter = std::function<bool(TokenId id, size_t begin, size_t end)>;

// Immutable once made; all methods may be called from several threads at once.
class Tokenizer {
 public:
  // Error kUnsupported / kBadFile. An unknown tokenizer.ggml.pre logs one warning and uses the default pattern.
  static Result<std::unique_ptr<Tokenizer>> create(Vocab vocab);
  virtual ~Tokenizer();

  // Ids of a text of any bytes; invalid UTF-8 never fails and, under byte-level BPE, decodes back to the same bytes.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Ids of the text, no BOS or EOS added. may_become is asked about every special token that is written out, also
  // user-defined ones; of those that it allows at a place, the longest counts.
  std::vector<TokenId> encode_filtered(std::string_view text, const SpecialFilter& may_become) const;

  // The bytes that a token stands for. Control and unknown tokens: empty, unless `render_special`, which gives their
  // names. An id outside the vocabulary: empty.
  std::string_view token_bytes(TokenId id, bool render_special = false) const;

  // The bytes of all tokens; SentencePiece's leading space is dropped as the vocabulary says.
  std::string decode(std::span<const TokenId> ids, bool render_special = false) const;

  // The token's part of a text: token_bytes, less the leading space that SentencePiece puts before a text. at_start: no
  // token has given bytes yet; kept up to date.
  std::string_view text_bytes(TokenId id, bool render_special, bool& at_start) const;

  // Id of a token by its exact stored name ("<|im_end|>"), or kNoToken. Of several with one name, the last.
  TokenId find(std::string_view name) const;

  const Vocab& vocab() const { return vocab_; }

 protected:
  explicit Tokenizer(Vocab vocab);
  // Appends the ids of a non-empty stretch of text that holds no special token. first: it starts the input or follows a
  // special token (SentencePiece's space prefix).
  virtual void encode_plain(std::string_view text, bool first, std::vector<TokenId>& ids) const = 0;

  Vocab vocab_;

 private:
  template <typename Find>
  void append_ids(std::string_view text, Find&& find_special, std::vector<TokenId>& ids) const;

  std::unique_ptr<const SpecialTokens> special_;
  std::string bytes_;                                      // of all tokens, one after the other
  std::vector<size_t> offsets_;                            // [size + 1] into bytes_
  std::unordered_map<std::string_view, TokenId> by_name_;  // views into vocab_.tokens
};

// Turns a stream of tokens into a stream of text, holding back bytes that may be the first part of a character.
class StreamDecoder {
 public:
  // tokenizer outlives this. `starts_text`: the first token begins a text, so SentencePiece's leading space is dropped.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool render_special = false, bool starts_text = false);

  // The text that this token completes: whole UTF-8 characters, possibly none. Bytes that no continuation can make
  // valid come out as U+FFFD.
  std::string push(TokenId id);
  // What is still held back, as U+FFFD; then empty.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool render_special_;
  bool at_start_;
  std::string pending_;
};

}  // namespace spate
