#include "app/serve_signals.h"

#include <cerrno>
#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <utility>

#include "base/check.h"

namespace spate::app {

namespace {

// Not those that whoever started us wants to be ignored (nohup; the background of a script): Linux queues a signal that
// is blocked, ignored or not, and signalfd hands it out.
sigset_t taken_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now = {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != SIG_IGN) sigaddset(&set, signal);
  }
  return set;
}

// As if nobody had looked at the signal.
void end_by(int signal) {
  std::signal(signal, SIG_DFL);
  const sigset_t set = taken_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  kill(getpid(), signal);
}

}  // namespace

ServeSignals::ServeSignals(std::function<bool()> first) : first_(std::move(first)) {
  const sigset_t set = taken_signals();
  pthread_sigmask(SIG_BLOCK, &set, &old_mask_);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC);
  ending_ = eventfd(0, EFD_CLOEXEC);
  SPATE_CHECK(signals_ >= 0 && ending_ >= 0, "signalfd, eventfd: errno {}", errno);
  thread_ = std::thread([this] { run(); });
}

ServeSignals::~ServeSignals() {
  eventfd_write(ending_, 1);
  thread_.join();
  close(signals_);
  close(ending_);
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void ServeSignals::run() {
  bool is_first = true;
  for (;;) {
    pollfd watched[] = {{.fd = signals_, .events = POLLIN, .revents = 0},
                        {.fd = ending_, .events = POLLIN, .revents = 0}};
    if (poll(watched, 2, -1) < 0) continue;  // EINTR
    if (watched[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signals_, &info, sizeof info) != sizeof info) continue;
    if (!std::exchange(is_first, false) || !first_()) end_by(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace spate::app
