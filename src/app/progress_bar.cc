#include "app/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <fmt/core.h>
#include <unistd.h>

#include "base/env_options.h"

namespace spate::app {

namespace {

constexpr int kBarWidth = 30;
constexpr std::chrono::milliseconds kDrawInterval{100};
constexpr const char* kEraseLine = "\r\x1b[K";

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
      fmt::format("{}{} [{}{}] {:3.0f}%{}{}", kEraseLine, label_, std::string(filled, '#'),
                  std::string(kBarWidth - filled, '.'), fraction * 100, note.empty() ? "" : "  ", note);
  std::fputs(line.c_str(), stderr);
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
