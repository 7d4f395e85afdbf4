#include "engine/prefix_index.h"

#include <gtest/gtest.h>
#include <vector>

#include "backend/executor.h"

namespace spate {
namespace {

constexpr int32_t kRoot = PrefixIndex::kRoot, kNone = PrefixIndex::kNone;

std::vector<int32_t> page_of(int32_t token) {
  return std::vector<int32_t>(kPageTokens, token);
}

// With every bit of the keys, and with none: then all pages are candidates, and only comparing tells them apart.
class PrefixIndexKeys : public ::testing::TestWithParam<uint64_t> {
 protected:
  PrefixIndex index_{8, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Masks, PrefixIndexKeys, ::testing::Values(~uint64_t{0}, uint64_t{0}));

TEST_P(PrefixIndexKeys, Page_IsFoundByItsTokensItsParentAndItsSalt) {
  index_.insert(3, kRoot, page_of(1), "");
  index_.insert(5, kRoot, page_of(2), "");
  index_.insert(6, kRoot, page_of(1), "salt");
  index_.insert(0, 3, page_of(7), "");
  index_.insert(1, 5, page_of(7), "");
  index_.insert(2, 6, page_of(7), "salt");
  EXPECT_EQ(index_.find(kRoot, page_of(1), ""), 3);
  EXPECT_EQ(index_.find(kRoot, page_of(2), ""), 5);
  EXPECT_EQ(index_.find(kRoot, page_of(1), "salt"), 6);
  EXPECT_EQ(index_.find(3, page_of(7), ""), 0);
  EXPECT_EQ(index_.find(5, page_of(7), ""), 1);
  EXPECT_EQ(index_.find(6, page_of(7), "salt"), 2);
  EXPECT_EQ(index_.find(kRoot, page_of(7), ""), kNone);
  EXPECT_EQ(index_.find(kRoot, page_of(2), "salt"), kNone);
  EXPECT_EQ(index_.find(0, page_of(7), ""), kNone);
  std::vector<int32_t> nearly = page_of(1);
  nearly.back() = 2;
  EXPECT_EQ(index_.find(kRoot, nearly, ""), kNone);
}

TEST_P(PrefixIndexKeys, ErasedPage_IsFoundNoMoreAndMayComeBackElsewhere) {
  index_.insert(3, kRoot, page_of(1), "");
  index_.insert(0, 3, page_of(2), "");
  EXPECT_EQ(index_.n_children(3), 1);
  index_.erase(0);
  EXPECT_EQ(index_.n_children(3), 0);
  EXPECT_FALSE(index_.contains(0));
  EXPECT_EQ(index_.find(3, page_of(2), ""), kNone);
  EXPECT_EQ(index_.find(kRoot, page_of(1), ""), 3);
  index_.insert(0, kRoot, page_of(9), "");
  EXPECT_EQ(index_.find(kRoot, page_of(9), ""), 0);
  EXPECT_EQ(index_.find(3, page_of(2), ""), kNone);
}

TEST_P(PrefixIndexKeys, PageThatIsNotFull_IsNotFound) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  index_.insert(4, kRoot, tokens, "");
  EXPECT_EQ(std::vector<int32_t>(index_.tokens(4).begin(), index_.tokens(4).end()), tokens);
  EXPECT_EQ(index_.find(kRoot, page_of(1), ""), kNone);
  EXPECT_TRUE(index_.is_below(4, kRoot, ""));
  EXPECT_FALSE(index_.is_below(4, kRoot, "salt"));
}

TEST(PrefixIndexDeathTest, PagesBelowWhatMayGo_AreCaught) {
  PrefixIndex index(8);
  index.insert(3, kRoot, page_of(1), "");
  index.insert(0, 3, page_of(2), "");
  EXPECT_DEATH(index.erase(3), "page 3 has 1 children");
  EXPECT_DEATH(index.insert(0, kRoot, page_of(3), ""), "page 0");
}

}  // namespace
}  // namespace spate
