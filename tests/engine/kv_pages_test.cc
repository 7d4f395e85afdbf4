#include "engine/kv_pages.h"

#include <gtest/gtest.h>
#include <set>

namespace spate {
namespace {

std::vector<int32_t> tokens(int n, int32_t first = 0) {
  std::vector<int32_t> tokens(n);
  for (int i = 0; i < n; ++i) tokens[i] = first + i;
  return tokens;
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A sequence that ran these tokens in a step, published what it could and holds its pages.
struct Holder {
  Holder(KvPages& pool, std::vector<int32_t> tokens_run, StepId step_run)
      : tokens(std::move(tokens_run)), step(step_run) {
    pool.share(tokens, "", pages);
    n_published = static_cast<int>(pages.size());
    EXPECT_EQ(pool.allocate(pages_for(static_cast<int>(tokens.size())) - n_published, pages),
              pages_for(static_cast<int>(tokens.size())) - n_published);
    n_published = pool.publish(pages, n_published, tokens, "", step);
  }
  void release(KvPages& pool) const { pool.release(pages, step); }

  std::vector<int32_t> tokens;
  StepId step;
  std::vector<int32_t> pages;
  int n_published = 0;
};

TEST(KvPages, Allocate_GivesWhatThereIs) {
  KvPages pool(3, KvReuse::kSharedPrefix);
  std::vector<int32_t> pages;
  EXPECT_EQ(pool.allocate(2, pages), 2);
  EXPECT_EQ(pool.allocate(2, pages), 1);
  EXPECT_EQ(pool.allocate(1, pages), 0);
  EXPECT_EQ(std::set<int32_t>(pages.begin(), pages.end()), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(pool.n_held(), 3);
}

TEST(KvPages, Released_ComesBackWhenItsLastStepHasCompleted) {
  KvPages pool(3, KvReuse::kNone);
  std::vector<int32_t> pages;
  pool.allocate(3, pages);
  pool.completed(4);
  pool.release(std::span(pages).subspan(0, 1), 6);
  pool.release(std::span(pages).subspan(1, 1), 5);
  pool.release(std::span(pages).subspan(2, 1), 4);  // completed already
  EXPECT_EQ(pool.n_free(), 1);
  EXPECT_EQ(pool.n_coming(), 2);
  pool.completed(5);
  EXPECT_EQ(pool.n_free(), 2);
  pool.completed(6);
  EXPECT_EQ(pool.n_free(), 3);
  EXPECT_EQ(pool.n_pending(), 0);
}

TEST(KvPages, PublishedPages_AreSharedWhileHeldAndAfter) {
  KvPages pool(10, KvReuse::kSharedPrefix);
  const Holder first(pool, tokens(80), 1);
  EXPECT_EQ(first.n_published, 2);
  KvPages::Match match = pool.match(tokens(100), "");
  EXPECT_EQ(match.n_pages, 2);
  EXPECT_EQ(match.n_held, 2);
  EXPECT_EQ(pool.match(tokens(63), "").n_pages, 1);
  EXPECT_EQ(pool.match(tokens(100), "other").n_pages, 0);
  EXPECT_EQ(pool.match(tokens(100, 1), "").n_pages, 0);
  const Holder second(pool, tokens(100), 2);
  EXPECT_EQ(std::vector(second.pages.begin(), second.pages.begin() + 2),
            std::vector(first.pages.begin(), first.pages.begin() + 2));
  EXPECT_EQ(pool.n_holders(first.pages[0]), 2);
  EXPECT_EQ(pool.n_held(), 3 + 2);
  first.release(pool);
  EXPECT_EQ(pool.n_holders(first.pages[0]), 1);
  second.release(pool);
  pool.completed(2);
  EXPECT_EQ(pool.n_cached(), 3);
  EXPECT_EQ(pool.n_free(), 7);
  match = pool.match(tokens(100), "");
  EXPECT_EQ(match.n_pages, 3);
  EXPECT_EQ(match.n_held, 0);
}

TEST(KvPages, SamePagesRunTwice_BecomeOne) {
  KvPages pool(10, KvReuse::kSharedPrefix);
  std::vector<int32_t> a, b;
  pool.allocate(2, a);
  pool.allocate(2, b);
  EXPECT_EQ(pool.publish(a, 0, tokens(64), "", 1), 2);
  const std::vector<int32_t> own = b;
  EXPECT_EQ(pool.publish(b, 0, tokens(64), "", 1), 2);
  EXPECT_EQ(a, b);
  EXPECT_EQ(pool.n_held(), 2);
  EXPECT_EQ(pool.n_pending(), 2);  // the step in flight still writes b's own
  pool.completed(1);
  EXPECT_EQ(pool.n_free(), 8);
}

TEST(KvPages, ShortOfPages_GivesUpTheLeastRecentlyUsedLeavesFirst) {
  KvPages pool(6, KvReuse::kSharedPrefix);
  const std::vector<int32_t> begin = tokens(32), one = joined(begin, tokens(32, 100)),
                             two = joined(begin, tokens(32, 200));
  Holder(pool, one, 1).release(pool);
  Holder(pool, two, 2).release(pool);
  Holder(pool, tokens(96, 300), 3).release(pool);
  Holder(pool, one, 4).release(pool);
  pool.completed(4);
  EXPECT_EQ(pool.n_cached(), 6);
  const auto cached = [&](const std::vector<int32_t>& prompt) { return pool.match(prompt, "").n_pages; };
  const auto take_one = [&] {
    std::vector<int32_t> page;
    return pool.allocate(1, page);
  };
  EXPECT_EQ(take_one(), 1);  // two's own page is the oldest; the one above it was used since
  EXPECT_EQ(cached(two), 1);
  EXPECT_EQ(cached(one), 2);
  EXPECT_EQ(cached(tokens(96, 300)), 3);
  EXPECT_EQ(take_one(), 1);  // from its end
  EXPECT_EQ(cached(tokens(96, 300)), 2);
  EXPECT_EQ(take_one() + take_one(), 2);
  EXPECT_EQ(cached(tokens(96, 300)), 0);
  EXPECT_EQ(take_one(), 1);
  EXPECT_EQ(cached(one), 1);
  EXPECT_EQ(take_one(), 1);
  EXPECT_EQ(cached(one), 0);
  EXPECT_EQ(take_one(), 0);
}

TEST(KvPages, CachedPageThatAStepReads_IsSharedButNotGivenUp) {
  KvPages pool(1, KvReuse::kSharedPrefix);
  Holder(pool, tokens(32), 7).release(pool);
  std::vector<int32_t> pages;
  EXPECT_EQ(pool.allocate(1, pages), 0);
  EXPECT_EQ(pool.n_coming(), 1);
  pool.share(tokens(40), "", pages);
  EXPECT_EQ(pages.size(), 1u);
  pool.release(pages, 0);
  pages.clear();
  pool.completed(7);
  EXPECT_EQ(pool.n_coming(), 0);
  EXPECT_EQ(pool.allocate(1, pages), 1);
  EXPECT_EQ(pool.match(tokens(32), "").n_pages, 0);
}

TEST(KvPages, OneConversation_TakesOverThePageThatMatchesLongest) {
  KvPages pool(8, KvReuse::kOneConversation);
  const std::vector<int32_t> said = tokens(70);
  const Holder first(pool, said, 1);
  pool.publish_rest(first.pages, said, "");
  first.release(pool);
  std::vector<int32_t> pages;
  pool.share(tokens(80), "", pages);
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pool.take_over(std::span(said).subspan(64, 5), "", pages), 0) << "a step in flight still writes it";
  pool.completed(1);
  EXPECT_EQ(pool.take_over(std::span(said).subspan(64, 5), "other", pages), 5) << "the salt is the root's alone";
  EXPECT_EQ(pages, first.pages);
  EXPECT_EQ(pool.n_cached(), 0);
  EXPECT_EQ(pool.take_over(std::span(said).subspan(64, 5), "", pages), 0);
}

TEST(KvPages, SharedPrefix_TakesNothingOver) {
  KvPages pool(8, KvReuse::kSharedPrefix);
  const Holder first(pool, tokens(70), 1);
  pool.publish_rest(first.pages, first.tokens, "");
  first.release(pool);
  pool.completed(1);
  std::vector<int32_t> pages;
  EXPECT_EQ(pool.take_over(tokens(20), "", pages), 0);
  EXPECT_EQ(pool.n_cached(), 2);
}

TEST(KvPagesDeathTest, PageReleasedTwice_IsCaught) {
  KvPages pool(2, KvReuse::kNone);
  std::vector<int32_t> pages;
  pool.allocate(1, pages);
  pool.release(pages, 0);
  EXPECT_DEATH(pool.release(pages, 0), "held by nobody");
}

TEST(PagesFor, Tokens_RoundUp) {
  EXPECT_EQ(pages_for(0), 0);
  EXPECT_EQ(pages_for(1), 1);
  EXPECT_EQ(pages_for(kPageTokens), 1);
  EXPECT_EQ(pages_for(kPageTokens + 1), 2);
}

}  // namespace
}  // namespace spate
