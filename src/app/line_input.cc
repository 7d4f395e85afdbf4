#include "app/line_input.h"

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "app/standard_output.h"

namespace spate::app {

namespace {

// Far above any context window; below what would fill the memory.
constexpr size_t kMaxLineBytes = size_t{8} << 20;

class PlainInput final : public LineInput {
 public:
  PlainInput(ChatSignals& signals, bool show_prompts) : signals_(signals), show_prompts_(show_prompts) {}

  Result<InputLine> read(const std::string& prompt) override {
    if (show_prompts_) StandardOutput().write(prompt);
    for (size_t searched = 0;;) {
      if (const size_t newline = pending_.find('\n', searched); newline != std::string::npos) return take(newline + 1);
      searched = pending_.size();
      if (searched > kMaxLineBytes)
        return Error::out_of_resources(fmt::format(
            "standard input: a line of more than {} MiB; no message may be that long", kMaxLineBytes >> 20));
      if (ended_) return pending_.empty() ? broken_off(InputLine::Kind::kEnd) : take(pending_.size());
      const bool readable = signals_.wait_readable(STDIN_FILENO);
      if (signals_.terminated()) return broken_off(InputLine::Kind::kTerminated);
      if (signals_.take_interrupt()) return broken_off(InputLine::Kind::kInterrupted);
      if (readable) SPATE_TRY_VOID(read_some());
    }
  }

  void remember(const std::string&) override {}

 private:
  // The cursor still stands behind the prompt.
  InputLine broken_off(InputLine::Kind kind) const {
    if (show_prompts_) StandardOutput().write("\n");
    return {.kind = kind};
  }

  Result<void> read_some() {
    char buffer[1 << 16];
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n > 0) pending_.append(buffer, static_cast<size_t>(n));
    if (n == 0) ended_ = true;
    if (n < 0 && errno != EINTR && errno != EAGAIN) return Error::io("standard input", std::strerror(errno));
    return {};
  }

  InputLine take(size_t n_bytes) {
    InputLine line{.kind = InputLine::Kind::kLine, .text = pending_.substr(0, n_bytes)};
    pending_.erase(0, n_bytes);
    if (line.text.ends_with('\n')) line.text.pop_back();
    if (line.text.ends_with('\r')) line.text.pop_back();
    return line;
  }

  ChatSignals& signals_;
  bool show_prompts_;
  bool ended_ = false;
  std::string pending_;
};

}  // namespace

std::unique_ptr<LineInput> plain_input(ChatSignals& signals, bool show_prompts) {
  return std::make_unique<PlainInput>(signals, show_prompts);
}

}  // namespace spate::app
