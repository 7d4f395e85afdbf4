#include "app/progress_bar.h"

#include <cstdlib>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <string>
#include <sys/ioctl.h>
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

// What a terminal of so many columns is sent while `draw` runs with stderr on it.
template <typename Draw>
std::string shown_on_terminal(uint16_t columns, const Draw& draw) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_TRUE(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  const int far_end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  EXPECT_GE(far_end, 0);
  const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  EXPECT_EQ(ioctl(far_end, TIOCSWINSZ, &size), 0);
  {
    const StderrIs redirected(far_end);
    draw();
  }
  std::string shown;
  for (pollfd ready{terminal, POLLIN, 0}; poll(&ready, 1, 200) == 1;) shown += read_once(terminal);
  close(far_end);
  close(terminal);
  return shown;
}

TEST(ProgressBar, OnATerminal_DrawsAndWipesItsLine) {
  const std::string shown = shown_on_terminal(80, [] {
    ProgressBar bar("loading");
    bar.update(0.5, "half");
    bar.update(0.6, "drawn again too soon");
  });
  EXPECT_THAT(shown, HasSubstr("loading [###############...............]  50%  half"));
  EXPECT_EQ(shown.find("too soon"), std::string::npos);
  EXPECT_THAT(shown, EndsWith("\r\x1b[K"));
}

TEST(ProgressBar, NarrowTerminal_IsLeftOnOneLine) {
  const std::string shown = shown_on_terminal(48, [] { ProgressBar("loading").update(0.5, "half of it"); });
  const std::string line = "loading [###############...............]  50%";
  EXPECT_EQ(shown, "\r\x1b[K" + line.substr(0, 44) + "..." + "\r\x1b[K");
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
