#include "engine/id_pool.h"

#include <gtest/gtest.h>
#include <set>

namespace spate {
namespace {

TEST(IdPool, Allocate_GivesDistinctIdsToTheirOwner) {
  IdPool pool(5);
  std::vector<int32_t> ids;
  pool.allocate(2, 7, ids);
  pool.allocate(3, 8, ids);
  EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.n_free(), 0);
  EXPECT_EQ(pool.owner(ids[0]), 7u);
  EXPECT_EQ(pool.owner(ids[4]), 8u);
}

TEST(IdPool, Released_StaysOwnedUntilItsLastStepHasCompleted) {
  IdPool pool(3);
  std::vector<int32_t> ids;
  pool.allocate(3, 1, ids);
  pool.completed(4);
  pool.release(std::span(ids).subspan(0, 1), 6);
  pool.release(std::span(ids).subspan(1, 1), 5);
  pool.release(std::span(ids).subspan(2, 1), 4);  // completed already
  EXPECT_EQ(pool.n_free(), 1);
  EXPECT_EQ(pool.n_pending(), 2);
  EXPECT_EQ(pool.owner(ids[0]), 1u);
  pool.completed(5);
  EXPECT_EQ(pool.n_free(), 2);
  EXPECT_EQ(pool.owner(ids[1]), IdPool::kNoOwner);
  EXPECT_EQ(pool.owner(ids[0]), 1u);
  pool.completed(6);
  EXPECT_EQ(pool.n_free(), 3);
  EXPECT_EQ(pool.n_pending(), 0);
}

TEST(IdPool, NeverNamedByAStep_IsFreeAtOnce) {
  IdPool pool(1);
  std::vector<int32_t> ids;
  pool.allocate(1, 1, ids);
  pool.release(ids, 0);
  EXPECT_EQ(pool.n_free(), 1);
}

TEST(IdPoolDeathTest, Misuse_IsCaught) {
  IdPool pool(2);
  std::vector<int32_t> ids;
  EXPECT_DEATH(pool.allocate(3, 1, ids), "3 ids wanted, 2 free");
  pool.allocate(1, 1, ids);
  pool.release(ids, 0);
  EXPECT_DEATH(pool.release(ids, 0), "released twice");
}

}  // namespace
}  // namespace spate
