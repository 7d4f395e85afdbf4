// Runs the spate program that was built beside these tests.
#pragma once

#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace spate::testing {

struct Finished {
  int exit_code = -1;  // -1 where a signal ended it
  int signal = 0;
  std::string out, err;
};

// A running `spate`, its stdout a pipe that the test reads, its stderr collected in a file.
class SpateProcess {
 public:
  explicit SpateProcess(const std::vector<std::string>& arguments, std::string_view standard_input = {});
  ~SpateProcess();
  SpateProcess(const SpateProcess&) = delete;
  SpateProcess& operator=(const SpateProcess&) = delete;

  // What arrives next on its stdout; empty at the end.
  std::string read_some();
  void close_stdout();
  // What it has written to stderr by now.
  std::string error_so_far() const;
  void send_signal(int signal);
  // Reads stdout to its end and waits for the exit.
  Finished finish();

 private:
  pid_t pid_ = -1;
  int out_ = -1;  // read end of its stdout
  int err_ = -1;  // the file its stderr goes to
};

// Arguments with which the demo model's answers do not end before something stops them: its end tokens are forbidden,
// and the window holds more than a test waits for.
std::vector<std::string> endless_answers();

// From start to exit.
Finished run_spate(const std::vector<std::string>& arguments, std::string_view standard_input = {});

}  // namespace spate::testing
