#include "engine/kv_pages.h"

#include <algorithm>

#include "base/check.h"

namespace spate {

KvPages::KvPages(int n_pages, KvReuse reuse) : reuse_(reuse), index_(n_pages), pages_(n_pages) {
  free_.reserve(n_pages);
  pending_.reserve(n_pages);
  for (int32_t page = n_pages; page-- > 0;) free_.push_back(page);
}

int KvPages::n_coming() const {
  // The list is in the order of use: what steps in flight name is at its end, but for pages that were let go of again.
  // allocate() stops at the first, so all behind it wait as well.
  const auto waits =
      std::find_if(lru_.begin(), lru_.end(), [&](int32_t p) { return pages_[p].last_step > completed_; });
  return n_pending() + static_cast<int>(std::distance(waits, lru_.end()));
}

int KvPages::allocate(int n, std::vector<int32_t>& out) {
  int n_got = 0;
  for (; n_got < n; ++n_got) {
    if (free_.empty() && !lru_.empty() && pages_[lru_.front()].last_step <= completed_) discard(lru_.front());
    if (free_.empty()) break;
    const int32_t page = free_.back();
    free_.pop_back();
    pages_[page].n_holders = 1;
    out.push_back(page);
  }
  return n_got;
}

void KvPages::release(std::span<const int32_t> pages, StepId last_step) {
  for (size_t i = pages.size(); i-- > 0;) let_go(pages[i], last_step);  // children before parents
}

void KvPages::completed(StepId step) {
  SPATE_CHECK(step >= completed_, "step {} completed after step {}", step, completed_);
  completed_ = step;
  std::erase_if(pending_, [&](const Pending& pending) {
    if (pending.last_step > step) return false;
    free_.push_back(pending.page);
    return true;
  });
}

void KvPages::hold(int32_t page) {
  if (pages_[page].n_holders++ == 0) lru_.erase(pages_[page].place);
}

void KvPages::let_go(int32_t page, StepId last_step) {
  Page& state = pages_[page];
  SPATE_CHECK(state.n_holders > 0, "page {} is held by nobody", page);
  state.last_step = std::max(state.last_step, last_step);
  if (--state.n_holders > 0) return;
  if (index_.contains(page)) {
    state.place = lru_.insert(lru_.end(), page);
  } else if (state.last_step <= completed_) {
    free_.push_back(page);
  } else {
    pending_.push_back({page, state.last_step});
  }
}

// Takes a cached page that has no children out of the index.
void KvPages::discard(int32_t page) {
  index_.erase(page);
  lru_.erase(pages_[page].place);
  if (pages_[page].last_step <= completed_) {
    free_.push_back(page);
  } else {
    pending_.push_back({page, pages_[page].last_step});
  }
}

KvPages::Match KvPages::match(std::span<const int32_t> tokens, std::string_view salt) const {
  Match match;
  if (reuse_ == KvReuse::kNone) return match;
  int32_t parent = PrefixIndex::kRoot;
  for (; tokens.size() >= kPageTokens; tokens = tokens.subspan(kPageTokens)) {
    parent = index_.find(parent, tokens.first(kPageTokens), salt);
    if (parent == PrefixIndex::kNone) break;
    ++match.n_pages;
    match.n_held += pages_[parent].n_holders > 0;
  }
  return match;
}

void KvPages::share(std::span<const int32_t> tokens, std::string_view salt, std::vector<int32_t>& out) {
  if (reuse_ == KvReuse::kNone) return;
  int32_t parent = PrefixIndex::kRoot;
  for (; tokens.size() >= kPageTokens; tokens = tokens.subspan(kPageTokens)) {
    parent = index_.find(parent, tokens.first(kPageTokens), salt);
    if (parent == PrefixIndex::kNone) break;
    hold(parent);
    out.push_back(parent);
  }
}

int KvPages::take_over(std::span<const int32_t> tokens, std::string_view salt, std::vector<int32_t>& out) {
  if (reuse_ != KvReuse::kOneConversation) return 0;
  const int32_t parent = out.empty() ? PrefixIndex::kRoot : out.back();
  int32_t best = PrefixIndex::kNone;
  int n_best = 0;
  for (const int32_t page : lru_) {
    if (!index_.is_below(page, parent, salt) || pages_[page].last_step > completed_) continue;
    const std::span<const int32_t> held = index_.tokens(page);
    const auto differs = std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end());
    const int n_common = static_cast<int>(differs.first - held.begin());
    if (n_common > n_best) {
      n_best = n_common;
      best = page;
    }
  }
  if (best == PrefixIndex::kNone) return 0;
  drop_below(best);
  index_.erase(best);
  hold(best);
  out.push_back(best);
  return n_best;
}

// Discards all that is below a cached page.
void KvPages::drop_below(int32_t page) {
  std::vector<bool> is_below(pages_.size());
  is_below[page] = true;
  std::vector<int32_t> found;
  for (auto it = lru_.rbegin(); it != lru_.rend(); ++it) {  // parents before children
    const int32_t parent = index_.parent(*it);
    if (parent == PrefixIndex::kRoot || !is_below[parent]) continue;
    is_below[*it] = true;
    found.push_back(*it);
  }
  for (size_t i = found.size(); i-- > 0;) discard(found[i]);
}

int KvPages::publish(std::vector<int32_t>& pages, int n_published, std::span<const int32_t> tokens,
                     std::string_view salt, StepId last_step) {
  if (reuse_ == KvReuse::kNone) return 0;
  const int n_full = static_cast<int>(tokens.size()) / kPageTokens;
  for (; n_published < n_full; ++n_published) {
    int32_t& page = pages[n_published];
    const int32_t parent = n_published == 0 ? PrefixIndex::kRoot : pages[n_published - 1];
    const auto own = tokens.subspan(static_cast<size_t>(n_published) * kPageTokens, kPageTokens);
    const int32_t same = index_.find(parent, own, salt);
    if (same == PrefixIndex::kNone) {
      index_.insert(page, parent, own, salt);
    } else {
      hold(same);
      let_go(page, last_step);
      page = same;
    }
  }
  return n_published;
}

void KvPages::publish_rest(std::span<const int32_t> pages, std::span<const int32_t> tokens, std::string_view salt) {
  const size_t n_full = tokens.size() / kPageTokens;
  const auto rest = tokens.subspan(n_full * kPageTokens);
  if (reuse_ != KvReuse::kOneConversation || rest.empty()) return;
  index_.insert(pages[n_full], n_full == 0 ? PrefixIndex::kRoot : pages[n_full - 1], rest, salt);
}

}  // namespace spate
