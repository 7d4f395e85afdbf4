// Byte-level BPE (GPT-2's: Radford et al. 2019): text is cut into pieces by the pre-tokenizer, each piece starts as its
// bytes, and the merges are applied best first.
#pragma once

#include <array>
#include <unordered_map>

#include "text/splitter.h"
#include "text/tokenizer.h"

namespace spate {

class ByteBpeTokenizer final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> create(Vocab vocab);

 private:
  // Symbols are token ids; above them, ids of byte strings that merges lead through but that are no tokens.
  using Symbol = int32_t;
  struct Merge {
    int32_t rank;
    Symbol result;
  };

  ByteBpeTokenizer(Vocab vocab, const PreTokenizer& pre);
  Result<void> index_merges();
  Symbol symbol_of(std::string_view bytes);

  void encode_plain(std::string_view text, bool first, std::vector<TokenId>& ids) const override;
  void encode_piece(std::string_view piece, std::vector<TokenId>& ids) const;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& ids) const;

  bool ignore_merges_;
  Splitter splitter_;
  std::unordered_map<std::string, Symbol> symbols_;  // by their bytes; only tokens that text can become
  std::array<Symbol, 256> byte_symbols_;
  std::unordered_map<uint64_t, Merge> merges_;  // by (left symbol, right symbol)
  Symbol n_symbols_ = 0;
};

}  // namespace spate
