#include "engine/prefix_index.h"

#include <algorithm>
#include <random>

#include "backend/executor.h"
#include "base/check.h"

namespace spate {
namespace {

// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

PrefixIndex::PrefixIndex(int n_pages, uint64_t key_mask) : key_mask_(key_mask), nodes_(n_pages) {
  std::random_device random;
  seed_ = uint64_t{random()} << 32 | random();
}

uint64_t PrefixIndex::key_of(int32_t parent, std::span<const int32_t> tokens, std::string_view salt) const {
  uint64_t key = parent == kRoot ? mix(seed_ ^ std::hash<std::string_view>()(salt)) : nodes_[parent].key;
  for (const int32_t token : tokens) key = mix(key + static_cast<uint32_t>(token) + 0x9E3779B97F4A7C15ull);
  return key & key_mask_;
}

int32_t PrefixIndex::find(int32_t parent, std::span<const int32_t> tokens, std::string_view salt) const {
  SPATE_CHECK(tokens.size() == kPageTokens);
  const auto [first, last] = by_key_.equal_range(key_of(parent, tokens, salt));
  for (auto it = first; it != last; ++it)
    if (is_below(it->second, parent, salt) && std::ranges::equal(nodes_[it->second].tokens, tokens)) return it->second;
  return kNone;
}

void PrefixIndex::insert(int32_t page, int32_t parent, std::span<const int32_t> tokens, std::string_view salt) {
  SPATE_CHECK(!contains(page) && !tokens.empty() && tokens.size() <= kPageTokens, "page {}", page);
  SPATE_CHECK(parent == kRoot || nodes_[parent].tokens.size() == kPageTokens, "page {} below page {}", page, parent);
  Node& node = nodes_[page];
  node.key = key_of(parent, tokens, salt);
  node.parent = parent;
  node.n_children = 0;
  node.tokens.assign(tokens.begin(), tokens.end());
  node.salt = parent == kRoot ? std::string(salt) : std::string();
  if (parent != kRoot) ++nodes_[parent].n_children;
  by_key_.emplace(node.key, page);
}

void PrefixIndex::erase(int32_t page) {
  Node& node = nodes_[page];
  SPATE_CHECK(contains(page) && node.n_children == 0, "page {} has {} children", page, node.n_children);
  const auto [first, last] = by_key_.equal_range(node.key);
  by_key_.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == page; }));
  if (node.parent != kRoot) --nodes_[node.parent].n_children;
  node.tokens.clear();
  node.salt.clear();
}

}  // namespace spate
