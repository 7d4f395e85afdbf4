// The command line as a whole: picks the command, parses its options, turns every failure into one line on stderr and a
// documented exit code.
#pragma once

namespace spate::app {

// Exit status of a failure of spate's own logic that surfaced as an exception; ErrorCode has the others.
inline constexpr int kInternalError = 1;

// The program. Returns the exit status: 0, kInternalError or the value of an ErrorCode.
int run_command_line(int argc, char** argv);

}  // namespace spate::app
