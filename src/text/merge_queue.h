// The merge loop that byte-level BPE and SentencePiece BPE share: a linked list of symbols over a piece of text, and a
// heap of the neighbours that could be merged, best first. O(n log n) in the symbols.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <queue>
#include <vector>

namespace spate {

// A stretch of the piece that is one symbol so far.
struct MergeSymbol {
  uint32_t begin, end;     // bytes of the piece
  int32_t symbol;          // the caller's id for it
  int32_t previous, next;  // indices of its neighbours, -1 at the ends
  bool merged_away = false;
};

// Priority: smaller first (a rank, or a negated score); of equals, the leftmost.
template <typename Priority>
struct MergeCandidate {
  Priority priority;
  int32_t left;                               // index of the left symbol
  int32_t left_symbol, right_symbol, result;  // stale once either neighbour is another symbol

  bool operator<(const MergeCandidate& other) const {  // std::priority_queue pops the largest
    return priority != other.priority ? priority > other.priority : left > other.left;
  }
};

// Merges until nothing can be merged; symbols[0] stays the first of the list. propose(left, right, candidate) says
// whether two neighbours merge, and fills priority and result.
template <typename Priority, typename Propose>
void merge_symbols(std::vector<MergeSymbol>& symbols, Propose&& propose) {
  std::vector<MergeCandidate<Priority>> storage;
  storage.reserve(symbols.size());
  std::priority_queue<MergeCandidate<Priority>> queue(std::less<MergeCandidate<Priority>>(), std::move(storage));
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    MergeCandidate<Priority> candidate{{}, left, symbols[left].symbol, symbols[right].symbol, -1};
    if (propose(symbols[left], symbols[right], candidate)) queue.push(candidate);
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) consider(i, i + 1);
  while (!queue.empty()) {
    const MergeCandidate<Priority> best = queue.top();
    queue.pop();
    MergeSymbol& left = symbols[best.left];
    if (left.merged_away || left.next < 0 || left.symbol != best.left_symbol) continue;
    MergeSymbol& right = symbols[left.next];
    if (right.symbol != best.right_symbol) continue;
    right.merged_away = true;
    left.end = right.end;
    left.symbol = best.result;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
}

}  // namespace spate
