// The KV pages: who holds which, what the unheld ones still hold, and in which order they are given up.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <vector>

#include "backend/executor.h"
#include "engine/prefix_index.h"

namespace spate {

// What becomes of keys and values whose sequence has ended.
enum class KvReuse : uint8_t {
  kNone,          // nothing: the pages are free
  kSharedPrefix,  // whole pages serve every prompt that begins with their tokens
  // As kSharedPrefix, and the last page serves too, full or not. A prompt that parts from earlier ones in the middle of
  // a page takes that page over, up to there, and what followed it is dropped: right for one conversation that goes on,
  // wasteful where many take turns.
  kOneConversation,
};

// Every page is in one of four states:
//   held     by one sequence, or by several that share it: then it is full, entered in the index, and never written
//   cached   held by nobody, entered in the index: whoever's prompt begins with its tokens may hold it again
//   pending  held by nobody and not entered, but named by a step that has not completed
//   free
// A sequence's pages that are entered in the index come first, each below the one before it. So whoever holds a page
// holds all above it, and below a page that nobody holds there is none that anybody holds.
//
// Steps run in order, so a page may be read by a step that is enqueued after the one that writes it. It is written anew
// only when the last step that names it has completed. Not thread-safe.
class KvPages {
 public:
  KvPages(int n_pages, KvReuse reuse);

  int size() const { return static_cast<int>(pages_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_pending() const { return static_cast<int>(pending_.size()); }
  int n_cached() const { return static_cast<int>(lru_.size()); }
  int n_held() const { return size() - n_free() - n_pending() - n_cached(); }
  int n_holders(int32_t page) const { return pages_[page].n_holders; }
  // Of the pages that nobody holds, how many wait for a step in flight.
  int n_coming() const;

  // Appends up to n pages, held once; free ones, then cached ones, least recently used first. How many it got.
  int allocate(int n, std::vector<int32_t>& out);

  // Lets go of a sequence's pages, in the order of its positions. last_step: that names any of them; 0: none does.
  void release(std::span<const int32_t> pages, StepId last_step);

  // Steps complete in order; all up to this one have.
  void completed(StepId step);

  struct Match {
    int n_pages = 0;  // whole pages of the prompt's beginning that are held or cached
    int n_held = 0;   // of these, held by somebody: sharing them takes nothing from what can be allocated
  };
  Match match(std::span<const int32_t> tokens, std::string_view salt) const;
  // Appends what match() counts, held once more.
  void share(std::span<const int32_t> tokens, std::string_view salt, std::vector<int32_t>& out);
  // kOneConversation: where a page below the last of `out` (the first page, where that is empty) begins like `tokens`
  // goes on behind out's pages, appends it as a page to be written from there on. The number of tokens it holds.
  int take_over(std::span<const int32_t> tokens, std::string_view salt, std::vector<int32_t>& out);

  // A sequence's tokens are known and their keys enqueued: enters its pages from number n_published on that `tokens`
  // fill. Where the same page is there already, the sequence shares that one and lets go of its own. The number of its
  // pages that are entered now.
  int publish(std::vector<int32_t>& pages, int n_published, std::span<const int32_t> tokens, std::string_view salt,
              StepId last_step);
  // kOneConversation: enters what is left of `tokens` after the whole pages that publish() entered, in the page after
  // them. For a sequence that is about to let go.
  void publish_rest(std::span<const int32_t> pages, std::span<const int32_t> tokens, std::string_view salt);

 private:
  struct Page {
    int n_holders = 0;
    StepId last_step = 0;                     // that names it, of those who let go
    std::list<int32_t>::iterator place = {};  // in lru_, when cached
  };
  struct Pending {
    int32_t page;
    StepId last_step;
  };
  void hold(int32_t page);
  void let_go(int32_t page, StepId last_step);
  void discard(int32_t page);
  void drop_below(int32_t page);

  KvReuse reuse_;
  PrefixIndex index_;
  std::vector<Page> pages_;
  std::vector<int32_t> free_;  // a stack: the page freed last is given out first, its memory is the warmest
  std::vector<Pending> pending_;
  std::list<int32_t> lru_;  // the cached pages, least recently used first, children before parents
  StepId completed_ = 0;
};

// Pages that n_tokens need.
constexpr int pages_for(int n_tokens) {
  return (n_tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace spate
