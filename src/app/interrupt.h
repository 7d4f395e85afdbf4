// Ctrl-C, SIGTERM and a terminal that goes as a flag that a loop asks for, so that it can end cleanly.
#pragma once

#include <array>
#include <csignal>

namespace spate::app {

// While one lives, the first of each of these signals sets the flag, and the second ends the process as it would
// without. Signals that were ignored before stay so. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const;

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kSignals.size()> old_;
};

}  // namespace spate::app
