// Ctrl-C and SIGTERM as a flag that a loop asks for, so that it can end cleanly.
#pragma once

#include <csignal>

namespace spate::app {

// While one lives, the first SIGINT or SIGTERM sets the flag, and the second ends the process as it would without. One
// at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;

 private:
  struct sigaction old_int_, old_term_;
};

}  // namespace spate::app
