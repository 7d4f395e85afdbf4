#include "app/cli.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "app/command.h"
#include "app/help_formatter.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/env_options.h"
#include "base/log.h"

namespace spate::app {

std::span<const Command* const> all_commands() {
  static constexpr const Command* kCommands[] = {
#define SPATE_COMMAND(name) &name##_command,
#include "app/commands.def"
  };
  return kCommands;
}

namespace {

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0  done\n"
    "  1  a bug in spate\n"
    "  2  the command line is not acceptable as written\n"
    "  3  a file cannot be opened, read or written\n"
    "  4  a file breaks its format\n"
    "  5  valid input that this build cannot run: architecture, tensor type, tokenizer, device\n"
    "  6  out of memory, KV pages or context window\n"
    "  7  the device failed\n"
    "  8  stopped by Ctrl-C, SIGTERM or SIGHUP; what was generated until then has been printed\n"
    "  134  a bug in spate: a check of its own failed\n\n"
    "`spate COMMAND --help` lists a command's options and shows examples.";

int report(int status, std::string_view message) {
  std::fprintf(stderr, "spate: %s\n", escape_control(message).c_str());
  return status;
}

int report(const Error& error) {
  return report(static_cast<int>(error.code), error.message);
}

Result<void> set_up_log(const std::string& option) {
  if (!option.empty()) return log::set_up(option);
  const std::string& wanted = env_options().log_level;
  const Result<void> done = log::set_up(wanted.empty() ? "warn" : wanted);
  return done ? done : Error::usage("SPATE_LOG: " + done.error().message);
}

// An empty value is, most likely, a variable of a script that nobody set. What leaving the option out would mean may be
// less than was asked for: no keys, no TLS, every address of this machine, another model. Texts alone may be empty.
void refuse_empty_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options())
    if (option->get_type_name() != "TEXT")
      option->check([](const std::string& value) {
        return value.empty() ? "'' is no value; give one, or leave it out altogether" : std::string();
      });
}

// The parser of the program and, by command, what to do once it has parsed.
struct Parser {
  CLI::App root{"spate serves GGUF language models at concurrency.", "spate"};
  std::vector<std::pair<CLI::App*, Action>> actions;
  std::string log_level;

  Parser() {
    root.set_version_flag("--version", "spate " SPATE_VERSION);
    root.set_help_flag("-h,--help", "print this help and exit");
    root.get_option("--version")->description("print the version and exit");
    root.formatter(std::make_shared<HelpFormatter>());
    root.footer(kExitCodes);
    root.require_subcommand(0, 1);
    for (const Command* command : all_commands()) {
      CLI::App* sub = root.add_subcommand(std::string(command->name), std::string(command->summary));
      sub->group("Commands");
      sub->footer("Examples:\n" + std::string(command->examples));
      sub->set_help_flag();  // taken out, to be added again behind the command's own options
      Action action = command->setup(*sub);
      sub->add_option("--log", log_level, "messages on stderr from this level up: debug, info, warn (default), error")
          ->type_name("LEVEL")
          ->group(kGeneralGroup);
      refuse_empty_values(*sub);
      sub->set_help_flag("-h,--help", "print this help and exit")->group(kGeneralGroup);
      actions.emplace_back(sub, std::move(action));
    }
  }
};

int run_parsed(const Parser& parser) {
  for (const auto& [sub, action] : parser.actions) {
    if (!sub->parsed()) continue;
    if (auto log = set_up_log(parser.log_level); !log) return report(log.error());
    const Result<void> result = action();
    return result ? 0 : report(result.error());
  }
  return report(Error::usage("no command given; `spate --help` lists them"));
}

std::string usage_message(const Parser& parser, const CLI::ParseError& error) {
  for (const auto& [sub, action] : parser.actions)
    if (sub->parsed()) return fmt::format("{}; see `spate {} --help`", error.what(), sub->get_name());
  const std::vector<std::string> unknown = parser.root.remaining();
  if (!unknown.empty() && !unknown.front().starts_with('-'))
    return fmt::format("no command is named '{}'; `spate --help` lists them", unknown.front());
  return fmt::format("{}; see `spate --help`", error.what());
}

// --help, --version.
int print_what_was_asked(const Parser& parser, const CLI::ParseError& request) {
  std::ostringstream text;
  parser.root.exit(request, text, text);
  StandardOutput out;
  out.write(text.str());
  const Result<void> written = out.finish();
  return written ? 0 : report(written.error());
}

// A program may be started with some of these closed. The next file opened would take the number, and its bytes be read
// as what somebody typed; so they are taken by something that cannot be read, or written.
void hold_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) == -1) static_cast<void>(open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

}  // namespace

int run_command_line(int argc, char** argv) {
  hold_standard_streams();
  // A reader that closes our stdout early is no error: writes fail with EPIPE and StandardOutput ends quietly.
  std::signal(SIGPIPE, SIG_IGN);
  // Likewise a file that may grow no further (ulimit -f): the write fails, and what was begun is taken away.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    Parser parser;
    try {
      parser.root.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return print_what_was_asked(parser, error);
      return report(Error::usage(usage_message(parser, error)));
    }
    return run_parsed(parser);
  } catch (const std::bad_alloc&) {
    return report(Error::out_of_resources("out of memory"));
  } catch (const std::system_error& error) {
    return report(Error::out_of_resources(fmt::format("the system refused a thread: {}", error.what())));
  } catch (const std::exception& error) {
    return report(kInternalError, fmt::format("internal error: {}", error.what()));
  }
}

}  // namespace spate::app
