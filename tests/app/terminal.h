// Runs spate in a pseudo-terminal, as somebody at a keyboard would.
#pragma once

#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace spate::testing {

class Terminal {
 public:
  // environment: set or changed for the program; TERM is xterm unless it says otherwise.
  explicit Terminal(const std::vector<std::string>& arguments,
                    const std::vector<std::pair<std::string, std::string>>& environment = {});
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(std::string_view keys);
  // Reads until the text has come, after what was waited for before. False: it did not come within 30 seconds, or the
  // program ended.
  [[nodiscard]] bool wait_for(std::string_view text);
  // All that the program has written so far.
  const std::string& screen() const { return screen_; }
  void resize(int rows, int columns);
  void send_signal(int signal);
  // Waits until a signal has stopped the program. False: it ended.
  [[nodiscard]] bool wait_stopped();
  // Takes the terminal away.
  void hang_up();
  // Whether the terminal echoes what is typed and gives it out by lines, as a shell expects to find it.
  bool is_cooked() const;
  // Reads to the end: the exit code, -1 where a signal ended the program or it did not end within 30 seconds.
  int wait_exit();

 private:
  bool read_some(int timeout_ms);

  pid_t pid_ = -1;
  int master_ = -1;
  std::string screen_;
  size_t seen_ = 0;  // of screen_, up to the end of what was waited for
};

}  // namespace spate::testing
