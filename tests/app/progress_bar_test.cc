#include "app/progress_bar.h"

#include <cstdlib>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <string>
#include <unistd.h>

namespace spate::app {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// While it lives, stderr is `file`.
class StderrIs {
 public:
  explicit StderrIs(int file) : saved_(dup(STDERR_FILENO)) { dup2(file, STDERR_FILENO); }
  ~StderrIs() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
  }
  StderrIs(const StderrIs&) = delete;
  StderrIs& operator=(const StderrIs&) = delete;

 private:
  int saved_;
};

std::string read_once(int file) {
  char buffer[4096];
  const ssize_t n = read(file, buffer, sizeof buffer);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

TEST(ProgressBar, OnATerminal_DrawsAndWipesItsLine) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(grantpt(terminal), 0);
  ASSERT_EQ(unlockpt(terminal), 0);
  const int far_end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  ASSERT_GE(far_end, 0);
  {
    const StderrIs redirected(far_end);
    ProgressBar bar("loading");
    bar.update(0.5, "half");
    bar.update(0.6, "drawn again too soon");
  }
  std::string shown;
  for (pollfd ready{terminal, POLLIN, 0}; poll(&ready, 1, 200) == 1;) shown += read_once(terminal);
  EXPECT_THAT(shown, HasSubstr("loading [###############...............]  50%  half"));
  EXPECT_EQ(shown.find("too soon"), std::string::npos);
  EXPECT_THAT(shown, EndsWith("\r\x1b[K"));
  close(far_end);
  close(terminal);
}

TEST(ProgressBar, Elsewhere_WritesNothing) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    const StderrIs redirected(ends[1]);
    ProgressBar bar("loading");
    bar.update(0.5, "half");
    bar.clear();
  }
  close(ends[1]);
  EXPECT_EQ(read_once(ends[0]), "");
  close(ends[0]);
}

}  // namespace
}  // namespace spate::app
