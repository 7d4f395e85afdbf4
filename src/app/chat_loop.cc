#include "app/chat_loop.h"

#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <utility>

#include "app/numbers.h"
#include "app/text_format.h"
#include "base/file.h"
#include "base/utf8.h"
#include "chat/conversation.h"

namespace spate::app {

namespace {

constexpr std::string_view kHelp =
    "/help            this list\n"
    "/system [TEXT]   show or set the system message; /system - removes it\n"
    "/reset           forget the conversation, but not the system message\n"
    "/drop [N]        forget its oldest turn, or the N oldest\n"
    "/save FILE       write the conversation as JSON, for you alone; /save! replaces another file\n"
    "/load FILE       go on with a conversation that was saved\n"
    "/stats           tokens and speed\n"
    "/quit            end; so does Ctrl-D, or Ctrl-C twice\n"
    "A line that ends with \\ goes on in the next one, and so does Alt-Enter; pasted lines stay together.\n"
    "Ctrl-C stops an answer. //TEXT sends /TEXT as a message.\n";

constexpr std::string_view kPrompt = "> ", kMorePrompt = ". ";

// Of a conversation that is loaded: far above any window, far below what would fill the memory as values.
constexpr uint64_t kMaxSavedBytes = uint64_t{64} << 20;

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

// Only a single line is looked at for slashes: what was pasted may be anything.
bool is_escaped(std::string_view message) {
  return message.starts_with("//") && message.find('\n') == std::string_view::npos;
}

bool is_command(std::string_view message) {
  return message.starts_with('/') && !is_escaped(message) && message.find('\n') == std::string_view::npos;
}

const char* plural(int n) {
  return n == 1 ? "" : "s";
}

}  // namespace

void ChatLoop::say(std::string_view text) {
  if (options_.interactive)
    out_.write(text);
  else
    std::fwrite(text.data(), 1, text.size(), stderr);
}

Result<void> ChatLoop::run() {
  bool interrupted_before = false;
  while (!out_.failed()) {
    SPATE_TRY(const InputLine line, read_message());
    switch (line.kind) {
      case InputLine::Kind::kEnd:
        return out_.finish();
      case InputLine::Kind::kTerminated:
        return Error::interrupted("ended by a signal");
      case InputLine::Kind::kInterrupted:
        if (!options_.interactive) return Error::interrupted("stopped by Ctrl-C");
        if (line.text.empty() && interrupted_before) return out_.finish();
        if (line.text.empty()) say("(Ctrl-C again, Ctrl-D or /quit to end)\n");
        interrupted_before = line.text.empty();
        continue;
      case InputLine::Kind::kLine:
        break;
    }
    interrupted_before = false;
    if (trimmed(line.text).empty()) continue;
    input_.remember(line.text);
    SPATE_TRY(const Next next, options_.commands&& is_command(line.text) ? obey(line.text) : take_turn(line.text));
    if (next == Next::kQuit) break;
  }
  return out_.finish();
}

// A message: one line, or at a terminal several of which each but the last ends with a backslash.
Result<InputLine> ChatLoop::read_message() {
  SPATE_TRY(InputLine line, input_.read(std::string(kPrompt)));
  while (options_.interactive && line.kind == InputLine::Kind::kLine && line.text.ends_with('\\')) {
    SPATE_TRY(InputLine more, input_.read(std::string(kMorePrompt)));
    if (more.kind != InputLine::Kind::kLine) {
      // Ctrl-C gives up the message, which was not empty.
      if (more.kind == InputLine::Kind::kInterrupted) more.text = line.text;
      return more;
    }
    line.text.back() = '\n';
    line.text += more.text;
  }
  return line;
}

// Mistakes in a command are told and forgiven where somebody is there to see it.
Result<ChatLoop::Next> ChatLoop::obey(const std::string& line) {
  const size_t space = std::min(line.find_first_of(" \t"), line.size());
  const std::string name = line.substr(1, space - 1);
  const std::string argument(trimmed(std::string_view(line).substr(space)));
  Result<void> result;
  if (name == "quit" || name == "exit") return Next::kQuit;
  if (name == "help" || name == "?")
    say(kHelp);
  else if (name == "system")
    set_system(argument);
  else if (name == "reset")
    reset();
  else if (name == "drop")
    result = drop(argument);
  else if (name == "save" || name == "save!")
    result = save(argument, name == "save!");
  else if (name == "load")
    result = load(argument);
  else if (name == "stats")
    show_stats();
  else
    result = Error::usage(fmt::format("no command {}; /help lists them, and //... sends a message that begins with /",
                                      quote("/" + name)));
  if (result) return Next::kGoOn;
  if (!options_.interactive) return result.error();
  say(fmt::format("({})\n", escape_control(result.error().message)));
  return Next::kGoOn;
}

Result<ChatLoop::Next> ChatLoop::take_turn(const std::string& line) {
  const std::string message = options_.commands && is_escaped(line) ? line.substr(1) : line;
  const Result<bool> room = make_room(message);
  if (!room) {
    if (!options_.interactive) return room.error();
    say(fmt::format("({})\n", escape_control(room.error().message)));
    return Next::kGoOn;
  }
  if (!*room) return signals_.terminated() ? Result<Next>(Error::interrupted("ended by a signal")) : Next::kGoOn;

  bool line_open = false;
  const auto on_text = [&](std::string_view text) {
    const std::string shown = options_.interactive ? terminal_text(text) : std::string(text);
    out_.write(shown);
    if (!shown.empty()) line_open = !shown.ends_with('\n');
  };
  const auto cancelled = [&] { return signals_.interrupted() || signals_.terminated() || out_.failed(); };
  Result<ChatSession::Answer> answer = session_.answer(message, on_text, cancelled);
  if (line_open) out_.write("\n");
  if (signals_.terminated()) return Error::interrupted("ended by a signal");
  const bool stopped = signals_.take_interrupt();
  if (stopped && !options_.interactive) return Error::interrupted("stopped by Ctrl-C");
  if (!answer) {
    if (!options_.interactive || answer.error().code == ErrorCode::kBackend) return answer.error();
    say(fmt::format("({})\n", escape_control(answer.error().message)));
    return Next::kGoOn;
  }
  last_ = std::move(*answer);
  ++n_answers_;
  n_prompt_total_ += last_.n_prompt;
  n_prompt_run_total_ += last_.n_prompt_run;
  show_end(last_);
  return Next::kGoOn;
}

// Why the answer ended, where that is not for the model to say.
void ChatLoop::show_end(const ChatSession::Answer& answer) {
  const Finish& finish = answer.generation.finish;
  if (finish.reason == FinishReason::kCancelled && options_.interactive)
    say(answer.generation.text.empty() ? "(stopped; the message is forgotten)\n" : "(stopped)\n");
  if (finish.reason != FinishReason::kLength) return;
  if (answer.window_full)
    say(fmt::format("(the window of {} tokens is full, and the answer cut{})\n", session_.window(),
                    options_.commands ? "; /drop makes room" : ""));
  else
    say(fmt::format("(cut after {} tokens, as -n says)\n", answer.generation.tokens.size()));
}

// False: the message is not to be sent.
Result<bool> ChatLoop::make_room(const std::string& message) {
  SPATE_TRY(const ChatSession::Fit fit, session_.fit(message));
  if (fit.fits) return true;
  const std::string full =
      fmt::format("the window of {} tokens has no room for an answer: the conversation has {} with this message",
                  session_.window(), fit.n_prompt);
  if (!fit.n_drop)
    return Error::out_of_resources(
        fmt::format("{}, and forgetting earlier turns would not help; shorten it, or start with a larger --ctx", full));
  const std::string drop =
      fmt::format("the oldest {} of {} turn{}", *fit.n_drop, session_.n_turns(), plural(session_.n_turns()));
  if (options_.drop_oldest) {
    say(fmt::format("({}; dropped {})\n", full, drop));
  } else if (!options_.interactive) {
    return Error::out_of_resources(
        fmt::format("{}; it would fit without {}: {}--drop-oldest", full, drop,
                    options_.commands ? fmt::format("/drop {}, or ", *fit.n_drop) : std::string()));
  } else {
    SPATE_TRY(const bool agreed, ask(fmt::format("({})\nDrop {}? [Y/n] ", full, drop)));
    if (!agreed) {
      say("(not sent; /drop, /reset or /system make room, /save keeps what there is)\n");
      return false;
    }
  }
  session_.drop_oldest(*fit.n_drop);
  return true;
}

Result<bool> ChatLoop::ask(const std::string& question) {
  const size_t last_line = question.rfind('\n') + 1;
  say(question.substr(0, last_line));
  SPATE_TRY(const InputLine line, input_.read(question.substr(last_line)));
  if (line.kind != InputLine::Kind::kLine) return false;
  const std::string_view answer = trimmed(line.text);
  return answer.empty() || answer.front() == 'y' || answer.front() == 'Y';
}

void ChatLoop::show_stats() {
  say(fmt::format("{} turn{}; {} of {} tokens in the window\n", session_.n_turns(), plural(session_.n_turns()),
                  session_.n_in_window(), session_.window()));
  if (n_answers_ == 0) return;
  const Generation& generation = last_.generation;
  say(fmt::format("last answer: prompt {} tokens, {} computed and {} kept, {:.1f} tok/s; {} tokens, {:.1f} tok/s\n",
                  last_.n_prompt, last_.n_prompt_run, last_.n_prompt - last_.n_prompt_run,
                  generation.prompt_rate(static_cast<size_t>(last_.n_prompt_run)), generation.tokens.size(),
                  generation.decode_rate()));
  if (n_answers_ > 1)
    say(fmt::format("all {} answers: {} prompt tokens, {} of them computed\n", n_answers_, n_prompt_total_,
                    n_prompt_run_total_));
}

void ChatLoop::set_system(const std::string& text) {
  if (!text.empty()) {
    session_.set_system(text == "-" ? "" : text);
    say(text == "-" ? "(no system message from here on)\n" : "(set, for the whole conversation)\n");
    return;
  }
  const std::string system = session_.system();
  say(system.empty() ? "(no system message)\n" : terminal_text(system) + "\n");
}

void ChatLoop::reset() {
  session_.reset();
  say(session_.system().empty() ? "(forgotten)\n" : "(forgotten, but for the system message)\n");
}

Result<void> ChatLoop::drop(const std::string& count) {
  const std::optional<int> n = count.empty() ? std::optional<int>(1) : parse_number<int>(count);
  if (!n || *n < 1) return Error::usage(fmt::format("/drop takes a number of turns, and {} is none", quote(count)));
  const int n_turns = session_.n_turns();
  if (*n > n_turns) {
    say(fmt::format("(there {} {} turn{} to drop)\n", n_turns == 1 ? "is" : "are", n_turns, plural(n_turns)));
    return {};
  }
  session_.drop_oldest(*n);
  say(fmt::format("(dropped {}; {} turn{} left)\n", *n, session_.n_turns(), plural(session_.n_turns())));
  return {};
}

Result<void> ChatLoop::save(const std::string& path, bool replace) {
  if (path.empty()) return Error::usage("/save needs the name of a file");
  std::error_code ignored;
  if (!replace && path != file_ && std::filesystem::exists(path, ignored))
    return Error::usage(fmt::format("{} exists; /save! replaces it", quote(path)));
  SPATE_TRY(AtomicFile file, AtomicFile::create_private(path));
  SPATE_TRY_VOID(file.write(session_.conversation().to_json().dump(1) + "\n"));
  SPATE_TRY_VOID(file.commit());
  file_ = path;
  say(fmt::format("(saved {} turn{})\n", session_.n_turns(), plural(session_.n_turns())));
  return {};
}

Result<void> ChatLoop::load(const std::string& path) {
  if (path.empty()) return Error::usage("/load needs the name of a file");
  if (path == "-") return Error::usage("/load takes a file; standard input holds the messages");
  SPATE_TRY(const std::string text, read_regular_file(path, kMaxSavedBytes));
  SPATE_TRY(const chat::Json json, chat::parse_json(text, path));
  Result<chat::Conversation> conversation = chat::Conversation::from_json(json);
  if (!conversation) return Error::usage(fmt::format("{}: {}", path, conversation.error().message));
  session_.load(std::move(*conversation));
  file_ = path;
  say(fmt::format("(loaded {} turn{})\n", session_.n_turns(), plural(session_.n_turns())));
  return {};
}

}  // namespace spate::app
