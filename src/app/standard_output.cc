#include "app/standard_output.h"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <unistd.h>

namespace spate::app {

namespace {

// Whoever shares the terminal or the pipe with us may have made it non-blocking.
void wait_writable() {
  pollfd writable{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  poll(&writable, 1, -1);
}

}  // namespace

bool StandardOutput::is_terminal() {
  return isatty(STDOUT_FILENO) != 0;
}

void StandardOutput::write(std::string_view bytes) {
  while (!bytes.empty() && error_ == 0) {
    const ssize_t n_written = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n_written >= 0)
      bytes.remove_prefix(static_cast<size_t>(n_written));
    else if (errno == EAGAIN)
      wait_writable();
    else if (errno != EINTR)
      error_ = errno;
  }
}

Result<void> StandardOutput::finish() const {
  if (error_ == 0 || error_ == EPIPE) return {};
  return Error::io("standard output", std::strerror(error_));
}

}  // namespace spate::app
