#include "text/special_tokens.h"

namespace spate {

SpecialTokens::SpecialTokens(const Vocab& vocab) {
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const TokenKind kind = vocab.kinds[id];
    const bool always = kind == TokenKind::kUserDefined;
    if (always || kind == TokenKind::kControl || kind == TokenKind::kUnknown) insert(vocab.tokens[id], id, always);
  }
}

void SpecialTokens::insert(std::string_view name, TokenId id, bool always) {
  if (name.empty()) return;
  begins_[static_cast<uint8_t>(name[0])] = true;
  uint32_t node = 0;
  for (const char byte : name) {
    const auto [entry, added] = edges_.try_emplace(edge(node, byte), static_cast<uint32_t>(nodes_.size()));
    if (added) nodes_.emplace_back();
    node = entry->second;
  }
  nodes_[node] = {id, always};
}

// accept(node, begin, end): whether the token that ends at the node counts.
template <typename Accept>
SpecialTokens::Match SpecialTokens::find_accepted(std::string_view text, size_t from, Accept&& accept) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    Match longest{begin, begin, kNoToken};
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto next = edges_.find(edge(node, text[at]));
      if (next == edges_.end()) break;
      node = next->second;
      if (nodes_[node].id != kNoToken && accept(nodes_[node], begin, at + 1))
        longest = {begin, at + 1, nodes_[node].id};
    }
    if (longest.id != kNoToken) return longest;
  }
  return {text.size(), text.size(), kNoToken};
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, size_t from, bool parse_special) const {
  return find_accepted(text, from, [&](const Node& node, size_t, size_t) { return parse_special || node.always; });
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, size_t from, const SpecialFilter& may_become) const {
  return find_accepted(text, from,
                       [&](const Node& node, size_t begin, size_t end) { return may_become(node.id, begin, end); });
}

}  // namespace spate
