#include "app/interrupt.h"

#include <gtest/gtest.h>

namespace spate::app {
namespace {

TEST(InterruptGuard, EachSignal_SetsTheFlagOfTheGuardThatLives) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const InterruptGuard guard;
    EXPECT_FALSE(guard.interrupted());
    raise(signal);
    EXPECT_TRUE(guard.interrupted()) << signal;
  }
}

TEST(InterruptGuard, SignalThatWasIgnored_StaysIgnored) {
  const auto before = std::signal(SIGHUP, SIG_IGN);
  {
    const InterruptGuard guard;
    raise(SIGHUP);
    EXPECT_FALSE(guard.interrupted());
  }
  EXPECT_EQ(std::signal(SIGHUP, before), SIG_IGN);
}

}  // namespace
}  // namespace spate::app
