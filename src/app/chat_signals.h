// Signals of a conversation in a terminal: Ctrl-C interrupts what is going on, SIGTERM and SIGHUP end the program in
// good order, a resized or resumed terminal is drawn again.
#pragma once

#include <array>
#include <csignal>

namespace spate::app {

// One at a time. A second SIGTERM or SIGHUP ends the process as it would without.
class ChatSignals {
 public:
  ChatSignals();
  ~ChatSignals();
  ChatSignals(const ChatSignals&) = delete;
  ChatSignals& operator=(const ChatSignals&) = delete;

  // Ctrl-C since the last call.
  bool take_interrupt();
  bool interrupted() const;
  // SIGTERM or SIGHUP, for good.
  bool terminated() const;
  // The terminal has another size; the process was stopped and goes on. Since the last call.
  bool take_resize();
  bool take_resume();

  // Blocks until a signal came or `fd` has something to read. True: it has, or is at its end.
  bool wait_readable(int fd);

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
  std::array<struct sigaction, kSignals.size()> old_;
};

}  // namespace spate::app
