// Finds tokens that are written out in the text and stand outside the merges: control tokens where asked, user-defined
// ones always.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"
#include "text/vocab.h"

namespace spate {

class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocab& vocab);

  struct Match {
    size_t begin, end;  // in the text; begin == end == text.size() where there is none
    TokenId id = kNoToken;
  };
  // The first special token at or after `from`; of those that begin there, the longest. parse_special: control and
  // unknown tokens count too. Time: the distance passed times the longest special token.
  Match find(std::string_view text, size_t from, bool parse_special) const;
  // The same of those that `may_become` allows. It is asked about every special token that is written out at a place.
  Match find(std::string_view text, size_t from, const SpecialFilter& may_become) const;

 private:
  struct Node {
    TokenId id = kNoToken;  // of the token that ends here
    bool always = false;    // it is user-defined
  };
  static uint64_t edge(uint32_t node, char byte) { return (uint64_t{node} << 8) | static_cast<uint8_t>(byte); }
  void insert(std::string_view name, TokenId id, bool always);
  template <typename Accept>
  Match find_accepted(std::string_view text, size_t from, Accept&& accept) const;

  std::vector<Node> nodes_{1};
  std::unordered_map<uint64_t, uint32_t> edges_;  // (node, byte) -> node
  std::array<bool, 256> begins_{};                // bytes that some special token begins with
};

}  // namespace spate
