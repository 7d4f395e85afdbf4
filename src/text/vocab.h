// The vocabulary of a model as its GGUF file carries it: tokens, their kinds, and which ones are special.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "gguf/gguf_file.h"

namespace spate {

using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;  // 0xFFFFFFFF in a file

enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

enum class VocabModel {
  kByteBpe,        // tokenizer.ggml.model = gpt2: byte-level BPE with merges
  kSentencePiece,  // llama: SentencePiece BPE, merged by score, byte fallback
};

struct Vocab {
  VocabModel model = VocabModel::kByteBpe;
  std::string pre;                  // tokenizer.ggml.pre, empty when absent
  std::vector<std::string> tokens;  // [size] as stored (byte-level BPE: in its printable alphabet)
  std::vector<TokenKind> kinds;     // [size]
  std::vector<float> scores;        // [size], SentencePiece only
  std::vector<std::string> merges;  // byte-level BPE: "left right", best first
  TokenId bos = kNoToken, eos = kNoToken, eot = kNoToken, eom = kNoToken, unknown = kNoToken, pad = kNoToken;
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;            // SentencePiece only
  std::vector<TokenId> end_of_generation;  // sorted: eos, eot, eom and the control tokens that end a turn, by name

  int size() const { return static_cast<int>(tokens.size()); }
  bool ends_generation(TokenId id) const;

  // Error kBadFile, or kUnsupported naming the vocabulary model (Unigram, WordPiece, ...). Files without tensors or
  // hyper-parameters are fine.
  static Result<Vocab> from_gguf(const GgufFile& file);
};

}  // namespace spate
