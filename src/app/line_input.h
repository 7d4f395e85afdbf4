// Where a conversation's messages come from: a terminal with line editing, or any stream of lines.
#pragma once

#include <memory>
#include <string>

#include "app/chat_signals.h"
#include "app/input_history.h"
#include "base/error.h"

namespace spate::app {

struct InputLine {
  enum class Kind {
    kLine,         // `text`, without the newline at its end; a pasted one may hold newlines
    kEnd,          // nothing more will come: end of the stream, or Ctrl-D
    kInterrupted,  // Ctrl-C; `text`, as far as the terminal tells, is what was typed until then
    kTerminated,   // SIGTERM, SIGHUP
  };
  Kind kind = Kind::kEnd;
  std::string text = {};
};

class LineInput {
 public:
  virtual ~LineInput() = default;

  // The next line. prompt: shown before it, where this shows prompts. Error kIo: reading failed; kOutOfResources: a
  // line without end.
  virtual Result<InputLine> read(const std::string& prompt) = 0;
  // Makes a line available for recall, where there is recall.
  virtual void remember(const std::string& line) = 0;
};

// Lines of standard input as they come. show_prompts: for a terminal that cannot edit. signals outlives this.
std::unique_ptr<LineInput> plain_input(ChatSignals& signals, bool show_prompts);

// A terminal that libedit can drive: emacs keys, recall of what was typed before, pasting of several lines. history:
// may be null; signals and history outlive this.
std::unique_ptr<LineInput> terminal_input(ChatSignals& signals, InputHistory* history);

}  // namespace spate::app
