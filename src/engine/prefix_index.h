// Which KV page holds which tokens: a tree of whole pages, found by hash and confirmed by comparing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace spate {

// A page's keys and values depend on its own tokens and on all before them, so a page's place is below the page that
// came before it: equal tokens below equal parents, from a root of equal salt, are equal contents. The key of a page is
// the hash of (its tokens, its parent's key), a root's parent key that of (salt); the pool holds one KV type and the
// model one set of weights, so neither takes part. A key only finds candidates: what is found was compared token by
// token, and its parent by identity, which by induction compares the whole prefix.
//
// Pages that are not full may be entered too. find() never gives them, as what they hold is not fixed yet.
class PrefixIndex {
 public:
  static constexpr int32_t kRoot = -1;  // the parent of a first page
  static constexpr int32_t kNone = -1;

  // key_mask: the bits of a key that count; a test that gives none makes all keys collide.
  explicit PrefixIndex(int n_pages, uint64_t key_mask = ~uint64_t{0});

  // The page that holds these kPageTokens tokens below `parent`; kNone where there is none. salt: of the root.
  int32_t find(int32_t parent, std::span<const int32_t> tokens, std::string_view salt) const;

  // Enters a page that is not in here, with [1, kPageTokens] tokens; parent is in here and full.
  void insert(int32_t page, int32_t parent, std::span<const int32_t> tokens, std::string_view salt);
  // Takes out a page that has no children.
  void erase(int32_t page);

  bool contains(int32_t page) const { return !nodes_[page].tokens.empty(); }
  bool is_below(int32_t page, int32_t parent, std::string_view salt) const {
    return contains(page) && nodes_[page].parent == parent && (parent != kRoot || nodes_[page].salt == salt);
  }
  int32_t parent(int32_t page) const { return nodes_[page].parent; }
  int n_children(int32_t page) const { return nodes_[page].n_children; }
  std::span<const int32_t> tokens(int32_t page) const { return nodes_[page].tokens; }

 private:
  struct Node {
    uint64_t key = 0;
    int32_t parent = kRoot;
    int n_children = 0;
    std::vector<int32_t> tokens = {};  // empty: not in here
    std::string salt = {};             // of a first page
  };
  uint64_t key_of(int32_t parent, std::span<const int32_t> tokens, std::string_view salt) const;

  uint64_t key_mask_;
  uint64_t seed_;            // drawn at random: nobody can prepare prompts whose keys collide
  std::vector<Node> nodes_;  // [n_pages]
  std::unordered_multimap<uint64_t, int32_t> by_key_;
};

}  // namespace spate
