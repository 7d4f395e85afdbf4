// stdout as the commands use it: bytes go out as they are, and a failed write is noticed once, at the end.
#pragma once

#include <string_view>

#include "base/error.h"

namespace spate::app {

class StandardOutput {
 public:
  // Writes and flushes, so that a reader sees each piece of text at once. After a failure: nothing.
  void write(std::string_view bytes);

  // Whether somebody looks at it: what comes from models and files then goes through terminal_text().
  static bool is_terminal();

  // True once a write has failed, also because the reader has gone: a stream has nobody left to produce for.
  bool failed() const { return error_ != 0; }

  // Error kIo if a write failed, except that a reader who closed the pipe had all that it wanted.
  Result<void> finish() const;

 private:
  int error_ = 0;  // errno of the first failed write
};

}  // namespace spate::app
