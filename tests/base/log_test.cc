#include "base/log.h"

#include <gtest/gtest.h>

namespace spate {
namespace {

TEST(Log, MessageWithControlCharacters_StaysOneLine) {
  ::testing::internal::CaptureStderr();
  log::warn("{}", "a\nb\x1b[2J\x7f caf\xc3\xa9");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "spate: warning: a\\x0ab\\x1b[2J\\x7f caf\xc3\xa9\n");
}

}  // namespace
}  // namespace spate
