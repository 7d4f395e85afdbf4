// A command of the spate program: one file that defines a Command, and one row in commands.def.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "base/error.h"

namespace CLI {
class App;
}

namespace spate::app {

// What a command does once its options are parsed. An Error is printed as one line, and its code is the exit status.
using Action = std::function<Result<void>()>;

struct Command {
  std::string_view name;
  std::string_view summary;   // one line, for the list of commands
  std::string_view examples;  // lines for the end of --help, two spaces before each
  // Declares the options on the command's parser. The action owns the memory that they are parsed into.
  Action (*setup)(CLI::App& parser);
};

#define SPATE_COMMAND(name) extern const Command name##_command;
#include "app/commands.def"

// Every command, in the order of commands.def.
std::span<const Command* const> all_commands();

}  // namespace spate::app
