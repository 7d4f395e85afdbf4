// Small vocabularies, and files that hold them.
#pragma once

#include <string>
#include <vector>

#include "gguf/gguf_writer.h"
#include "text/vocab.h"

#include "support/test_data.h"

namespace spate::testing {

// A vocabulary-only file that Vocab::from_gguf takes: byte-level BPE over the 256 bytes, "ab", "abc" (merged), and the
// tokens named, with their kinds.
struct NamedToken {
  std::string name;
  TokenKind kind;
};
GgufWriter byte_level_file(const std::vector<NamedToken>& more = {});
inline constexpr TokenId kTokenAb = 256, kTokenAbc = 257, kFirstNamedToken = 258;

// <unk> <s> </s>, the 256 byte tokens, then the pieces with their scores.
struct ScoredPiece {
  std::string piece;
  float score;
};
GgufWriter sentence_piece_file(const std::vector<ScoredPiece>& pieces, const std::vector<NamedToken>& more = {});
inline constexpr TokenId kFirstPiece = 259;

// Writes and reads back.
Result<Vocab> vocab_of(const GgufWriter& writer);

}  // namespace spate::testing
