#include "app/subprocess.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

namespace spate::testing {

namespace {

// An unnamed file with these bytes, read from its start.
int temporary_file(std::string_view bytes) {
  char path[] = "/tmp/spate-test-XXXXXX";
  const int file = mkostemp(path, O_CLOEXEC);
  SPATE_CHECK(file >= 0, "mkostemp: errno {}", errno);
  unlink(path);
  SPATE_CHECK(write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "errno {}", errno);
  lseek(file, 0, SEEK_SET);
  return file;
}

std::string read_to_end(int file) {
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = read(file, buffer, sizeof buffer);
    if (n > 0) bytes.append(buffer, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR)) return bytes;
  }
}

}  // namespace

SpateProcess::SpateProcess(const std::vector<std::string>& arguments, std::string_view standard_input) {
  std::vector<std::string> words{SPATE_EXECUTABLE};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const int in = temporary_file(standard_input);
  err_ = temporary_file({});
  int out[2];
  SPATE_CHECK(pipe2(out, O_CLOEXEC) == 0, "pipe2: errno {}", errno);
  pid_ = fork();
  SPATE_CHECK(pid_ >= 0, "fork: errno {}", errno);
  if (pid_ == 0) {
    dup2(in, STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err_, STDERR_FILENO);
    // As a program starts by itself, whatever this one was told to ignore (nohup) or has blocked.
    for (const int signal_number : {SIGHUP, SIGINT, SIGTERM}) signal(signal_number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(in);
  close(out[1]);
  out_ = out[0];
}

SpateProcess::~SpateProcess() {
  close_stdout();
  close(err_);
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string SpateProcess::read_some() {
  char buffer[4096];
  ssize_t n;
  do n = read(out_, buffer, sizeof buffer);
  while (n < 0 && errno == EINTR);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

void SpateProcess::close_stdout() {
  if (out_ >= 0) close(out_);
  out_ = -1;
}

// By pread: the child writes through the same open file, so seeking here would move its place too.
std::string SpateProcess::error_so_far() const {
  std::string bytes;
  char buffer[4096];
  ssize_t n;
  while ((n = pread(err_, buffer, sizeof buffer, static_cast<off_t>(bytes.size()))) > 0)
    bytes.append(buffer, static_cast<size_t>(n));
  return bytes;
}

void SpateProcess::send_signal(int signal) {
  SPATE_CHECK(pid_ > 0, "the process has been waited for");
  kill(pid_, signal);
}

Finished SpateProcess::finish() {
  Finished finished;
  if (out_ >= 0) finished.out = read_to_end(out_);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (WIFEXITED(status)) finished.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) finished.signal = WTERMSIG(status);
  finished.err = error_so_far();
  return finished;
}

std::vector<std::string> endless_answers() {
  return {"--ctx", "16384", "--log", "error", "--logit-bias", "16381=-inf", "--logit-bias", "16383=-inf"};
}

Finished run_spate(const std::vector<std::string>& arguments, std::string_view standard_input) {
  return SpateProcess(arguments, standard_input).finish();
}

}  // namespace spate::testing
