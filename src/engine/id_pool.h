// Executor slots: numbers that name a sequence's state on the device, handed out and taken back only when the device no
// longer uses them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/executor.h"

namespace spate {

// A fixed set of ids [0, size). A released id stays with its owner until the last step that names it has completed:
// given out earlier, a step in flight would read or write another sequence's state. Not thread-safe.
class IdPool {
 public:
  static constexpr uint64_t kNoOwner = 0;

  explicit IdPool(int size);

  int size() const { return static_cast<int>(owner_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  // Released, but named by a step that has not completed.
  int n_pending() const { return static_cast<int>(pending_.size()); }

  // Appends n <= n_free() ids to `out`. owner: whoever they belong to from now on, not kNoOwner.
  void allocate(int n, uint64_t owner, std::vector<int32_t>& out);
  // last_step: the last step enqueued that names any of the ids; 0 when none does.
  void release(std::span<const int32_t> ids, StepId last_step);
  // Steps complete in order; all up to this one have.
  void completed(StepId step);

  // kNoOwner when free; the former owner while pending.
  uint64_t owner(int32_t id) const { return owner_[id]; }

 private:
  struct Pending {
    int32_t id;
    StepId last_step;
  };
  void make_free(int32_t id);

  std::vector<int32_t> free_;  // a stack
  std::vector<uint64_t> owner_;
  std::vector<Pending> pending_;
  StepId completed_ = 0;
};

}  // namespace spate
