// What an executor whose steps may take minutes shows while one runs, for a watchdog to tell slow from hung.
#pragma once

#include <cstdint>

namespace spate {

// An Executor may be one as well. One that is not completes every step in seconds, or hangs.
class StepProgress {
 public:
  virtual ~StepProgress() = default;

  // A number that changes as long as a step gets on: several times in a step, and at least once in what takes a second
  // on a machine that can be waited for. Any thread.
  virtual uint64_t progress() const = 0;
};

}  // namespace spate
