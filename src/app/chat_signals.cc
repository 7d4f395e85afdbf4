#include "app/chat_signals.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/check.h"

namespace spate::app {

namespace {

std::atomic<bool> g_interrupt{false}, g_terminate{false}, g_resize{false}, g_resume{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch nothing else");

// A byte in it for every signal: poll() sees one that came just before.
std::atomic<int> g_wake_read{-1}, g_wake_write{-1};

std::atomic<bool>& flag_of(int signal) {
  switch (signal) {
    case SIGINT:
      return g_interrupt;
    case SIGWINCH:
      return g_resize;
    case SIGCONT:
      return g_resume;
    default:
      return g_terminate;
  }
}

void note_signal(int signal) {
  const int saved = errno;
  flag_of(signal).store(true);
  // Full: there is a byte already.
  [[maybe_unused]] const ssize_t n = write(g_wake_write.load(), "", 1);
  errno = saved;
}

}  // namespace

ChatSignals::ChatSignals() {
  int ends[2];
  SPATE_CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "pipe2: errno {}", errno);
  g_wake_read = ends[0];
  g_wake_write = ends[1];
  for (auto* flag : {&g_interrupt, &g_terminate, &g_resize, &g_resume}) flag->store(false);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction action = {};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    if (kSignals[i] == SIGTERM || kSignals[i] == SIGHUP) action.sa_flags |= SA_RESETHAND;
    sigaction(kSignals[i], nullptr, &old_[i]);
    // Under nohup a terminal that goes away is no reason to end.
    if (kSignals[i] == SIGHUP && old_[i].sa_handler == SIG_IGN) continue;
    sigaction(kSignals[i], &action, nullptr);
  }
}

ChatSignals::~ChatSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &old_[i], nullptr);
  close(g_wake_write.exchange(-1));
  close(g_wake_read.exchange(-1));
}

bool ChatSignals::take_interrupt() {
  return g_interrupt.exchange(false);
}

bool ChatSignals::interrupted() const {
  return g_interrupt.load();
}

bool ChatSignals::terminated() const {
  return g_terminate.load();
}

bool ChatSignals::take_resize() {
  return g_resize.exchange(false);
}

bool ChatSignals::take_resume() {
  return g_resume.exchange(false);
}

bool ChatSignals::wait_readable(int fd) {
  pollfd watched[] = {{.fd = fd, .events = POLLIN, .revents = 0}, {.fd = g_wake_read, .events = POLLIN, .revents = 0}};
  while (poll(watched, 2, -1) < 0 && errno == EINTR) {
  }
  char bytes[64];
  while (read(g_wake_read, bytes, sizeof bytes) > 0) {
  }
  return watched[0].revents != 0;
}

}  // namespace spate::app
