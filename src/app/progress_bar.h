// A line on stderr that shows how far something is, where stderr is a terminal; elsewhere nothing.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace spate::app {

class ProgressBar {
 public:
  explicit ProgressBar(std::string_view label);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // fraction in [0, 1]; `note` is shown behind the bar. Draws at most ten times a second.
  void update(double fraction, std::string_view note = {});

  // Wipes the line. The next update draws it again.
  void clear();

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_draw_{};
};

}  // namespace spate::app
