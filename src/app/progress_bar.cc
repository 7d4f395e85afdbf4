#include "app/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/text_format.h"
#include "base/env_options.h"

namespace spate::app {

namespace {

constexpr int kBarWidth = 30;
constexpr std::chrono::milliseconds kDrawInterval{100};
constexpr const char* kEraseLine = "\r\x1b[K";

// Characters that fit on a line with "..." behind them, less the last one, behind which some terminals begin a new
// line: what has wrapped is not wiped with the line.
size_t room_on_line() {
  winsize size = {};
  const size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  return columns > 4 ? columns - 4 : 0;
}

}  // namespace

ProgressBar::ProgressBar(std::string_view label)
    : label_(label), enabled_(isatty(STDERR_FILENO) == 1 && env_options().term != "dumb") {}

void ProgressBar::update(double fraction, std::string_view note) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || now < next_draw_) return;
  next_draw_ = now + kDrawInterval;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int filled = static_cast<int>(fraction * kBarWidth);
  const std::string line =
      fmt::format("{} [{}{}] {:3.0f}%{}{}", label_, std::string(filled, '#'), std::string(kBarWidth - filled, '.'),
                  fraction * 100, note.empty() ? "" : "  ", note);
  std::fputs((kEraseLine + shorten(line, room_on_line())).c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::clear() {
  if (!drawn_) return;
  std::fputs(kEraseLine, stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace spate::app
