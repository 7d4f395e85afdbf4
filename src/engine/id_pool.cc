#include "engine/id_pool.h"

#include <algorithm>

#include "base/check.h"

namespace spate {

IdPool::IdPool(int size) : owner_(size, kNoOwner) {
  free_.reserve(size);
  pending_.reserve(size);
  for (int32_t id = size; id-- > 0;) free_.push_back(id);
}

void IdPool::allocate(int n, uint64_t owner, std::vector<int32_t>& out) {
  SPATE_CHECK(n <= n_free(), "{} ids wanted, {} free", n, n_free());
  SPATE_CHECK(owner != kNoOwner);
  for (int i = 0; i < n; ++i) {
    const int32_t id = free_.back();
    free_.pop_back();
    owner_[id] = owner;
    out.push_back(id);
  }
}

void IdPool::release(std::span<const int32_t> ids, StepId last_step) {
  for (const int32_t id : ids) {
    SPATE_CHECK(owner_[id] != kNoOwner, "id {} released twice", id);
    if (last_step <= completed_) {
      make_free(id);
    } else {
      pending_.push_back({id, last_step});
    }
  }
}

void IdPool::completed(StepId step) {
  SPATE_CHECK(step >= completed_, "step {} completed after step {}", step, completed_);
  completed_ = step;
  std::erase_if(pending_, [&](const Pending& pending) {
    if (pending.last_step > step) return false;
    make_free(pending.id);
    return true;
  });
}

void IdPool::make_free(int32_t id) {
  owner_[id] = kNoOwner;
  free_.push_back(id);
}

}  // namespace spate
