// The table of pre-tokenizers: how a byte-level vocabulary cuts text into the pieces that merges may not cross, by the
// name that tokenizer.ggml.pre gives. A new one is a row in pre_tokenizers.cc and its cases in
// tests/text/pre_tokenizers_test.cc.
#pragma once

#include <array>
#include <span>
#include <string_view>

namespace spate {

// One pass over the pieces so far; each is cut further. Whatever a pass does not match stays together, as a piece
// between its neighbours ("Isolated" in tokenizer.json).
struct SplitStep {
  enum class Kind {
    kPattern,  // every match of `pattern` (text/pattern.h) becomes a piece
    // Runs of `pattern`, a class, in groups of three counted from the right, as thousands are written. Published as
    // patterns whose lookahead runs over the rest of the digits, which no linear matcher takes literally.
    kThousands,        // each group is a piece
    kThousandsInside,  // cut before each group; a run is not cut off from what surrounds it
    kThousandsOfWord,  // each group is a piece, unless a letter, mark or underscore follows the run
  };
  Kind kind = Kind::kPattern;
  std::string_view pattern;
};

struct PreTokenizer {
  std::string_view names;   // separated by spaces
  std::string_view source;  // where the pattern was read
  std::array<SplitStep, 6> steps;
  bool ignore_merges = false;  // a piece that is a token as a whole is that token, whatever merges would give
  bool add_bos = false;        // where tokenizer.ggml.add_bos_token is absent

  bool has_name(std::string_view name) const;
};

std::span<const PreTokenizer> pre_tokenizers();

// nullptr where no row has the name. An empty name is "default".
const PreTokenizer* find_pre_tokenizer(std::string_view name);

// True for names that do exist but belong to vocabularies over raw UTF-8 instead of bytes.
bool is_raw_utf8_pre_tokenizer(std::string_view name);

}  // namespace spate
