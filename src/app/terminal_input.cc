// Line editing through libedit, whose own reading of the terminal is replaced: signals have to end it, a pasted text
// has to arrive in one piece, and what is typed is UTF-8 whatever the locale says.
#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstring>
#include <histedit.h>
#include <langinfo.h>
#include <string>
#include <string_view>
#include <unistd.h>

#include "app/line_input.h"
#include "app/standard_output.h"
#include "base/log.h"
#include "base/utf8.h"

namespace spate::app {

namespace {

constexpr std::string_view kPasteOn = "\x1b[?2004h", kPasteOff = "\x1b[?2004l";  // xterm's bracketed paste
constexpr std::string_view kPasteEnd = "\x1b[201~";
constexpr size_t kMaxPasteBytes = size_t{8} << 20;

std::wstring to_wide(std::string_view text) {
  std::wstring wide;
  while (!text.empty()) {
    const DecodedUtf8 c = decode_utf8(text);
    if (c.codepoint != 0) wide += static_cast<wchar_t>(c.codepoint);  // a NUL would end it
    text.remove_prefix(static_cast<size_t>(c.n_bytes));
  }
  return wide;
}

std::string to_utf8(std::wstring_view wide) {
  std::string text;
  for (const wchar_t c : wide) append_utf8(text, static_cast<char32_t>(c));
  return text;
}

class TerminalInput final : public LineInput {
 public:
  TerminalInput(ChatSignals& signals, InputHistory* history) : signals_(signals), history_(history) {
    // libedit shows characters as the locale classifies them; "C" knows ASCII only.
    std::setlocale(LC_CTYPE, "");
    if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = el_init("spate", stdin, stdout, stderr);
    SPATE_CHECK(edit_ != nullptr, "el_init: errno {}", errno);
    el_wset(edit_, EL_CLIENTDATA, this);
    el_wset(edit_, EL_GETCFN, &get_character);
    el_wset(edit_, EL_PROMPT, &get_prompt);
    el_wset(edit_, EL_EDITOR, L"emacs");
    el_wset(edit_, EL_SIGNAL, 0);
    set_up_recall();
    el_source(edit_, nullptr);  // the user's ~/.editrc
    el_wset(edit_, EL_ADDFN, L"spate-paste", L"take in a pasted text", &paste);
    el_wset(edit_, EL_BIND, L"\\e[200~", L"spate-paste", nullptr);
    el_wset(edit_, EL_ADDFN, L"spate-newline", L"begin another line of the same message", &insert_newline);
    el_wset(edit_, EL_BIND, L"\\e^M", L"spate-newline", nullptr);
    el_wset(edit_, EL_BIND, L"\\e^J", L"spate-newline", nullptr);
  }

  ~TerminalInput() override {
    el_end(edit_);
    history_wend(recall_);
  }
  TerminalInput(const TerminalInput&) = delete;
  TerminalInput& operator=(const TerminalInput&) = delete;

  Result<InputLine> read(const std::string& prompt) override {
    prompt_ = to_wide(prompt);
    outcome_ = InputLine::Kind::kEnd;
    typed_.clear();
    if (signals_.take_resize()) el_resize(edit_);
    // libedit does this when it reads the first key; what is typed between the prompt and that would show twice.
    el_wset(edit_, EL_PREP_TERM, 1);
    StandardOutput().write(kPasteOn);
    int n_read = 0;
    const wchar_t* read = el_wgets(edit_, &n_read);
    StandardOutput().write(kPasteOff);
    if (read != nullptr && n_read > 0) {
      std::string text = to_utf8({read, static_cast<size_t>(n_read)});
      if (text.ends_with('\n')) text.pop_back();
      return InputLine{.kind = InputLine::Kind::kLine, .text = std::move(text)};
    }
    el_reset(edit_);
    if (error_ != 0) return Error::io("standard input", std::strerror(error_));
    // What is typed next begins a line of its own.
    StandardOutput().write("\n");
    return InputLine{.kind = outcome_, .text = std::move(typed_)};
  }

  void remember(const std::string& line) override {
    HistEventW event;
    history_w(recall_, &event, H_ENTER, to_wide(line).c_str());
    if (history_ == nullptr) return;
    if (const Result<void> added = history_->add(line); !added) {
      log::warn("{}; what is typed from here on is not kept", added.error().message);
      history_ = nullptr;
    }
  }

 private:
  void set_up_recall() {
    recall_ = history_winit();
    SPATE_CHECK(recall_ != nullptr, "history_init: errno {}", errno);
    HistEventW event;
    history_w(recall_, &event, H_SETSIZE, static_cast<int>(InputHistory::kMaxEntries));
    history_w(recall_, &event, H_SETUNIQUE, 1);
    if (history_ != nullptr)
      for (const std::string& entry : history_->entries()) history_w(recall_, &event, H_ENTER, to_wide(entry).c_str());
    el_wset(edit_, EL_HIST, history_w, recall_);
  }

  static TerminalInput& self(EditLine* edit) {
    void* data = nullptr;
    el_wget(edit, EL_CLIENTDATA, &data);
    return *static_cast<TerminalInput*>(data);
  }

  static wchar_t* get_prompt(EditLine* edit) { return self(edit).prompt_.data(); }

  // 1: a character; 0: the end; -1: reading is to stop.
  static int get_character(EditLine* edit, wchar_t* out) {
    TerminalInput& input = self(edit);
    // A signal broke off a pasted text, and with that the line.
    if (input.outcome_ != InputLine::Kind::kEnd || input.error_ != 0) return -1;
    std::string bytes;
    for (;;) {
      char byte = 0;
      if (!input.next_byte(byte)) return input.outcome_ == InputLine::Kind::kEnd && input.error_ == 0 ? 0 : -1;
      bytes += byte;
      if (complete_utf8_prefix(bytes) == 0) continue;  // more bytes belong to this character
      const DecodedUtf8 c = decode_utf8(bytes);
      // Of an invalid sequence the last byte may begin a valid one.
      input.unread_ = bytes.substr(static_cast<size_t>(c.n_bytes)) + input.unread_;
      *out = static_cast<wchar_t>(c.codepoint);
      return 1;
    }
  }

  // False: the end, a signal or an error, and outcome_ and error_ say which.
  bool next_byte(char& byte) {
    while (unread_.empty()) {
      const bool readable = signals_.wait_readable(STDIN_FILENO);
      if (signals_.terminated()) return stop(InputLine::Kind::kTerminated);
      if (signals_.take_interrupt()) return stop(InputLine::Kind::kInterrupted);
      const bool resumed = signals_.take_resume(), resized = signals_.take_resize();
      if (resumed) el_wset(edit_, EL_PREP_TERM, 1);  // the shell has set the terminal for itself
      if (resized) el_resize(edit_);
      // Woken for neither: by a signal that an answer took. The line is as it was.
      if (!readable && (resumed || resized)) el_wset(edit_, EL_REFRESH);
      if (!readable) continue;
      char buffer[4096];
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n > 0) unread_.assign(buffer, static_cast<size_t>(n));
      if (n == 0) return stop(InputLine::Kind::kEnd);
      if (n < 0 && errno == EIO) return stop(InputLine::Kind::kEnd);  // the terminal is gone
      if (n < 0 && errno != EINTR && errno != EAGAIN) {
        error_ = errno;
        return false;
      }
    }
    byte = unread_.front();
    unread_.erase(0, 1);
    return true;
  }

  // The line as it is now: once libedit has given up reading, it has given up the line.
  bool stop(InputLine::Kind outcome) {
    outcome_ = outcome;
    const LineInfoW* line = el_wline(edit_);
    typed_ = to_utf8({line->buffer, static_cast<size_t>(line->lastchar - line->buffer)});
    return false;
  }

  // The terminal has announced a pasted text: all up to its end mark goes into the line as it is.
  static unsigned char paste(EditLine* edit, wint_t) {
    TerminalInput& input = self(edit);
    std::string text;
    bool too_long = false;
    char byte = 0;
    while (!text.ends_with(kPasteEnd)) {
      if (!input.next_byte(byte)) {
        input.typed_ += text;
        return CC_ERROR;
      }
      text += byte;
      // What cannot be taken must not be taken for keys either.
      if (text.size() <= kMaxPasteBytes) continue;
      too_long = true;
      text.erase(0, text.size() - kPasteEnd.size());
    }
    if (too_long) return CC_ERROR;
    text.resize(text.size() - kPasteEnd.size());
    // Terminals send carriage returns for the ends of lines.
    std::replace(text.begin(), text.end(), '\r', '\n');
    if (text.ends_with('\n')) text.pop_back();
    return el_winsertstr(edit, to_wide(text).c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }

  static unsigned char insert_newline(EditLine* edit, wint_t) {
    return el_winsertstr(edit, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
  }

  ChatSignals& signals_;
  InputHistory* history_;
  EditLine* edit_ = nullptr;
  HistoryW* recall_ = nullptr;
  std::wstring prompt_;
  std::string unread_;  // bytes that came and were not asked for yet
  InputLine::Kind outcome_ = InputLine::Kind::kEnd;
  std::string typed_;  // of a line that was not ended
  int error_ = 0;      // errno of a failed read
};

}  // namespace

std::unique_ptr<LineInput> terminal_input(ChatSignals& signals, InputHistory* history) {
  return std::make_unique<TerminalInput>(signals, history);
}

}  // namespace spate::app
