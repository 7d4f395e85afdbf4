#include "app/terminal.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/check.h"

namespace spate::testing {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{30};

}  // namespace

Terminal::Terminal(const std::vector<std::string>& arguments,
                   const std::vector<std::pair<std::string, std::string>>& environment) {
  std::vector<std::string> words{SPATE_EXECUTABLE};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  pid_ = forkpty(&master_, nullptr, nullptr, &size);
  SPATE_CHECK(pid_ >= 0, "forkpty: errno {}", errno);
  if (pid_ == 0) {
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    // As a program starts by itself, whatever this one was told to ignore (nohup) or has blocked.
    for (const int signal_number : {SIGHUP, SIGINT, SIGTERM}) signal(signal_number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

Terminal::~Terminal() {
  hang_up();
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

// The program may be writing while it should read: what it writes is taken in meanwhile, or both would wait for ever.
void Terminal::type(std::string_view keys) {
  while (!keys.empty()) {
    pollfd watched{.fd = master_, .events = POLLIN | POLLOUT, .revents = 0};
    poll(&watched, 1, 1000);
    if ((watched.revents & POLLIN) != 0) read_some(0);
    if ((watched.revents & POLLOUT) == 0) continue;
    const ssize_t n = write(master_, keys.data(), std::min<size_t>(keys.size(), 512));
    if (n > 0) keys.remove_prefix(static_cast<size_t>(n));
    if (n < 0 && errno != EINTR && errno != EAGAIN) return;
  }
}

bool Terminal::read_some(int timeout_ms) {
  pollfd watched{.fd = master_, .events = POLLIN, .revents = 0};
  if (master_ < 0 || poll(&watched, 1, timeout_ms) <= 0) return master_ >= 0;
  char buffer[4096];
  const ssize_t n = read(master_, buffer, sizeof buffer);
  if (n > 0) screen_.append(buffer, static_cast<size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

bool Terminal::wait_for(std::string_view text) {
  const auto deadline = Clock::now() + kPatience;
  for (;;) {
    if (const size_t at = screen_.find(text, seen_); at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (Clock::now() > deadline || !read_some(100)) return screen_.find(text, seen_) != std::string::npos;
  }
}

void Terminal::resize(int rows, int columns) {
  const winsize size{.ws_row = static_cast<unsigned short>(rows),
                     .ws_col = static_cast<unsigned short>(columns),
                     .ws_xpixel = 0,
                     .ws_ypixel = 0};
  SPATE_CHECK(ioctl(master_, TIOCSWINSZ, &size) == 0, "errno {}", errno);
}

void Terminal::send_signal(int signal) {
  SPATE_CHECK(pid_ > 0, "the program has been waited for");
  kill(pid_, signal);
}

bool Terminal::wait_stopped() {
  int status = 0;
  return waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status);
}

void Terminal::hang_up() {
  if (master_ >= 0) close(master_);
  master_ = -1;
}

bool Terminal::is_cooked() const {
  termios settings{};
  SPATE_CHECK(tcgetattr(master_, &settings) == 0, "errno {}", errno);
  return (settings.c_lflag & ICANON) != 0 && (settings.c_lflag & ECHO) != 0;
}

int Terminal::wait_exit() {
  const auto deadline = Clock::now() + kPatience;
  int status = 0;
  pid_t ended = 0;
  while (ended == 0 && Clock::now() < deadline) {
    if (!read_some(20)) usleep(20'000);
    ended = waitpid(pid_, &status, WNOHANG);
  }
  if (ended != pid_) return -1;
  pid_ = -1;
  while (master_ >= 0 && read_some(0) && [&] {
    pollfd watched{.fd = master_, .events = POLLIN, .revents = 0};
    return poll(&watched, 1, 0) > 0;
  }()) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace spate::testing
