// A conversation as somebody has it: reads lines, obeys commands, prints answers.
#pragma once

#include <string>
#include <string_view>

#include "app/chat_session.h"
#include "app/chat_signals.h"
#include "app/line_input.h"
#include "app/standard_output.h"

namespace spate::app {

struct ChatLoopOptions {
  bool interactive = false;  // somebody sits at a terminal: prompts, questions, answers made safe to show
  bool commands = false;     // lines that begin with a slash are commands; otherwise they are messages like all others
  bool drop_oldest = false;  // when the window is full, drop the oldest turns without asking
};

class ChatLoop {
 public:
  // All outlive this.
  ChatLoop(ChatSession& session, LineInput& input, ChatSignals& signals, const ChatLoopOptions& options)
      : session_(session), input_(input), signals_(signals), options_(options) {}

  // Until the input ends, /quit, a signal to end, or nobody reads the answers. Errors: kInterrupted by a signal to end,
  // or by Ctrl-C where nobody is there to go on; where nobody is there to put things right, also the errors of a turn.
  Result<void> run();

 private:
  enum class Next { kGoOn, kQuit };

  Result<InputLine> read_message();
  Result<Next> obey(const std::string& line);
  Result<Next> take_turn(const std::string& message);
  Result<bool> make_room(const std::string& message);
  Result<bool> ask(const std::string& question);
  void show_end(const ChatSession::Answer& answer);
  void show_stats();
  void set_system(const std::string& text);
  Result<void> save(const std::string& path, bool replace);
  Result<void> load(const std::string& path);
  void reset();
  Result<void> drop(const std::string& count);
  // To whoever leads the conversation, apart from the answers where these go elsewhere.
  void say(std::string_view text);

  ChatSession& session_;
  LineInput& input_;
  ChatSignals& signals_;
  ChatLoopOptions options_;
  StandardOutput out_;
  std::string file_;  // that the conversation was last saved to or loaded from
  ChatSession::Answer last_;
  int n_answers_ = 0;
  int64_t n_prompt_total_ = 0, n_prompt_run_total_ = 0;
};

}  // namespace spate::app
