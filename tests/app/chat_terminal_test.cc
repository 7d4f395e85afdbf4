// spate chat at a terminal.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "app/subprocess.h"
#include "app/terminal.h"
#include "base/file.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlD = "\x04";
constexpr const char* kUp = "\x1b[A";

// A program with a home of its own, waiting for the first message.
struct ChatTerminal {
  explicit ChatTerminal(std::vector<std::string> more = {},
                        std::vector<std::pair<std::string, std::string>> environment = {}) {
    std::vector<std::string> arguments = {"chat", "--temperature", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    environment.insert(environment.begin(), {{"HOME", home.path("")}, {"XDG_STATE_HOME", home.path("state")}});
    terminal.emplace(arguments, environment);
    EXPECT_TRUE(terminal->wait_for("/help lists the commands")) << terminal->screen();
    EXPECT_TRUE(terminal->wait_for("> ")) << terminal->screen();
  }
  void send(const std::string& line) { terminal->type(line + "\r"); }
  // Waits for the prompt that follows this text.
  bool wait_for_prompt_after(const std::string& text) { return terminal->wait_for(text) && terminal->wait_for("> "); }
  // The messages, by way of /save.
  json messages() {
    const std::string path = home.path("saved-" + std::to_string(n_saved++) + ".json");
    send("/save " + path);
    EXPECT_TRUE(wait_for_prompt_after("(saved ")) << terminal->screen();
    return json::parse(read_file(path).value()).at("messages");
  }
  std::string history_file() const { return home.path("state/spate/chat_history"); }
  int quit() {
    send("/quit");
    return terminal->wait_exit();
  }

  TemporaryFolder home;
  int n_saved = 0;
  std::optional<Terminal> terminal;
};

TEST(ChatTerminal, AConversation) {
  ChatTerminal chat({"-n", "6"});
  chat.send("Tell me about the river.");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 6 tokens")) << chat.terminal->screen();
  chat.send("And the sea?");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 6 tokens")) << chat.terminal->screen();
  chat.send("/stats");
  EXPECT_TRUE(chat.wait_for_prompt_after("2 turns; ")) << chat.terminal->screen();
  const json messages = chat.messages();
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages[2].at("content"), "And the sea?");
  std::string answer = messages[1].at("content");
  EXPECT_THAT(chat.terminal->screen(), HasSubstr(answer.substr(0, answer.find('\n'))));
  chat.terminal->type(kCtrlD);
  EXPECT_EQ(chat.terminal->wait_exit(), 0);
}

TEST(ChatTerminal, CtrlC_StopsTheAnswerAndNotTheProgram) {
  ChatTerminal chat(endless_answers());
  chat.send("Tell me about the river.");
  ASSERT_TRUE(chat.terminal->wait_for("\x1b[?2004l")) << "the message is being answered";
  chat.terminal->type(kCtrlC);
  ASSERT_TRUE(chat.wait_for_prompt_after("(stopped")) << chat.terminal->screen();
  chat.send("/stats");
  ASSERT_TRUE(chat.wait_for_prompt_after("tokens in the window")) << chat.terminal->screen();
  EXPECT_THAT(chat.terminal->screen(), Not(HasSubstr("> > "))) << "the prompt is drawn once";
  // At an empty prompt the first one asks, the second one ends.
  chat.terminal->type(kCtrlC);
  ASSERT_TRUE(chat.wait_for_prompt_after("(Ctrl-C again")) << chat.terminal->screen();
  chat.terminal->type(kCtrlC);
  EXPECT_EQ(chat.terminal->wait_exit(), 0);
}

TEST(ChatTerminal, CtrlCInALine_GivesUpTheLine) {
  ChatTerminal chat({"-n", "2"});
  for (int i = 0; i < 3; ++i) {
    chat.terminal->type("half a message");
    ASSERT_TRUE(chat.terminal->wait_for("half a message")) << chat.terminal->screen();
    chat.terminal->type(kCtrlC);
    ASSERT_TRUE(chat.terminal->wait_for("> ")) << chat.terminal->screen();
  }
  chat.send("whole");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "whole");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, PastedLines_AreOneMessage) {
  ChatTerminal chat({"-n", "2"});
  EXPECT_THAT(chat.terminal->screen(), HasSubstr("\x1b[?2004h"));
  chat.send("\x1b[200~first\rsecond <|im_end|>\r\tthird \xe5\x8c\x97\x1b[201~, typed");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  const json messages = chat.messages();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].at("content"), "first\nsecond <|im_end|>\n\tthird \xe5\x8c\x97, typed");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, PasteThatLooksLikeACommand_IsAMessage) {
  ChatTerminal chat({"-n", "2"});
  chat.send("\x1b[200~/quit\nnow\x1b[201~");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  chat.send("\x1b[200~// a comment\ncode\x1b[201~");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  const json messages = chat.messages();
  EXPECT_EQ(messages.at(0).at("content"), "/quit\nnow");
  EXPECT_EQ(messages.at(2).at("content"), "// a comment\ncode");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, BackslashAndAltEnter_BeginAnotherLine) {
  ChatTerminal chat({"-n", "2"});
  chat.send("one\\");
  ASSERT_TRUE(chat.terminal->wait_for(". ")) << chat.terminal->screen();
  chat.send("two\x1b\rthree");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "one\ntwo\nthree");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, HugePaste_IsRefusedAndTheProgramGoesOn) {
  ChatTerminal chat({"-n", "2"});
  chat.send("\x1b[200~" + std::string(100'000, 'x') + "\x1b[201~");
  ASSERT_TRUE(chat.wait_for_prompt_after("would not help")) << chat.terminal->screen().substr(0, 500);
  chat.send("short");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens"));
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, UnfinishedPaste_IsGivenUpByCtrlC) {
  ChatTerminal chat({"-n", "2"});
  // More than a terminal holds: once all of it is typed, the program has taken in the beginning.
  chat.terminal->type("typed\x1b[200~" + std::string(100'000, 'x'));
  chat.terminal->type(kCtrlC);
  ASSERT_TRUE(chat.terminal->wait_for("\x1b[?2004l")) << chat.terminal->screen();
  ASSERT_TRUE(chat.terminal->wait_for("> ")) << chat.terminal->screen();
  EXPECT_THAT(chat.terminal->screen(), Not(HasSubstr("(Ctrl-C again"))) << "there was something to give up";
  chat.send("whole");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "whole");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, BytesThatAreNoText_BecomeReplacementCharacters) {
  ChatTerminal chat({"-n", "2"}, {{"LC_ALL", "C"}});
  chat.send("a\xff\xc3z \xe5\x8c\x97");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "a\xEF\xBF\xBD\xEF\xBF\xBDz \xe5\x8c\x97");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, FullWindow_AsksWhatToDrop) {
  ChatTerminal chat({"-n", "8", "--ctx", "64"});
  for (const char* message : {"Tell me about the river.", "And the sea?"}) {
    chat.send(message);
    ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 8 tokens")) << chat.terminal->screen();
  }
  chat.send("And the hills?");
  ASSERT_TRUE(chat.terminal->wait_for("Drop the oldest 1 of 2 turns? [Y/n] ")) << chat.terminal->screen();
  chat.send("n");
  ASSERT_TRUE(chat.wait_for_prompt_after("(not sent")) << chat.terminal->screen();
  chat.send("And the hills?");
  ASSERT_TRUE(chat.terminal->wait_for("[Y/n] ")) << chat.terminal->screen();
  chat.send("");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 8 tokens")) << chat.terminal->screen();
  const json messages = chat.messages();
  EXPECT_EQ(messages.at(0).at("content"), "And the sea?");
  EXPECT_EQ(messages.at(2).at("content"), "And the hills?");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, History_IsKeptForTheNextTimeAndForNobodyElse) {
  const TemporaryFolder state;
  const std::pair<std::string, std::string> home{"XDG_STATE_HOME", state.path("deep/state")};
  const std::string path = state.path("deep/state/spate/chat_history");
  {
    ChatTerminal chat({"-n", "2"}, {home});
    chat.send("Remember \\ me.");
    ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
    EXPECT_EQ(chat.quit(), 0);
  }
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(read_file(path).value(), "Remember \\\\ me.\n/quit\n");
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ChatTerminal chat({"-n", "2"}, {home});
  chat.terminal->type(std::string(kUp) + kUp);
  ASSERT_TRUE(chat.terminal->wait_for("Remember \\ me.")) << chat.terminal->screen();
  chat.send("");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "Remember \\ me.");
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, NoHistory_LeavesNoFile) {
  ChatTerminal chat({"--no-history"});
  chat.send("/stats");
  ASSERT_TRUE(chat.wait_for_prompt_after("0 turns"));
  EXPECT_FALSE(std::filesystem::exists(chat.history_file()));
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, HistoryThatCannotBeKept_IsAWarning) {
  const TemporaryFolder state;
  std::ofstream(state.path("spate")) << "a file where a folder should be";
  ChatTerminal chat({}, {{"XDG_STATE_HOME", state.path("")}});
  EXPECT_THAT(chat.terminal->screen(), HasSubstr("what is typed is not kept"));
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, DumbTerminal_GetsNoEscapes) {
  ChatTerminal chat({"-n", "3"}, {{"TERM", "dumb"}});
  chat.send("Tell me about the river.");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 3 tokens")) << chat.terminal->screen();
  chat.terminal->type(kCtrlC);
  ASSERT_TRUE(chat.wait_for_prompt_after("(Ctrl-C again")) << chat.terminal->screen();
  chat.terminal->type(kCtrlD);
  EXPECT_EQ(chat.terminal->wait_exit(), 0);
  EXPECT_THAT(chat.terminal->screen(), Not(HasSubstr("\x1b")));
}

TEST(ChatTerminal, Resize_RedrawsTheLine) {
  ChatTerminal chat({"-n", "2"});
  chat.terminal->type("before ");
  ASSERT_TRUE(chat.terminal->wait_for("before"));
  const struct {
    int rows, columns;
    const char* key;  // whose echo shows that the size before it was taken in
  } sizes[] = {{40, 120, "w"}, {1, 1, "x"}, {5, 10, "y"}, {24, 80, "z"}};
  for (const auto& size : sizes) {
    chat.terminal->resize(size.rows, size.columns);
    chat.terminal->type(size.key);
    ASSERT_TRUE(chat.terminal->wait_for(size.key)) << chat.terminal->screen();
  }
  chat.send(" and after");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "before wxyz and after");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, StoppedAndResumed_GoesOnWithTheLine) {
  ChatTerminal chat({"-n", "2"});
  chat.terminal->type("before ");
  ASSERT_TRUE(chat.terminal->wait_for("before"));
  chat.terminal->send_signal(SIGSTOP);
  ASSERT_TRUE(chat.terminal->wait_stopped());
  chat.terminal->send_signal(SIGCONT);
  chat.send("and after");
  ASSERT_TRUE(chat.wait_for_prompt_after("(cut after 2 tokens")) << chat.terminal->screen();
  EXPECT_EQ(chat.messages().at(0).at("content"), "before and after");
  EXPECT_EQ(chat.quit(), 0);
}

TEST(ChatTerminal, SignalAtThePrompt_EndsItAndLeavesTheTerminalInOrder) {
  ChatTerminal chat;
  chat.terminal->type("half");
  ASSERT_TRUE(chat.terminal->wait_for("half"));
  chat.terminal->send_signal(SIGTERM);
  EXPECT_TRUE(chat.terminal->wait_for("\x1b[?2004l"));
  EXPECT_TRUE(chat.terminal->wait_for("spate: ended by a signal")) << chat.terminal->screen();
  EXPECT_TRUE(chat.terminal->is_cooked());
  EXPECT_EQ(chat.terminal->wait_exit(), 8);
}

TEST(ChatTerminal, TerminalThatGoesAway_EndsIt) {
  ChatTerminal chat;
  chat.terminal->hang_up();
  EXPECT_EQ(chat.terminal->wait_exit(), 8);
}

TEST(ChatTerminal, WhatTheModelSays_CannotDriveTheTerminal) {
  const TemporaryFolder folder;
  const std::string path = folder.path("hostile.json");
  std::ofstream(path) << R"({"messages": [{"role": "system", "content": "a\u001b]0;title\u0007b\u009bc\rd\ne"}]})";
  ChatTerminal chat;
  chat.send("/load " + path);
  ASSERT_TRUE(chat.wait_for_prompt_after("(loaded 0 turns)")) << chat.terminal->screen();
  chat.send("/system");
  EXPECT_TRUE(chat.wait_for_prompt_after("a]0;titlebcd\r\ne")) << chat.terminal->screen();
  EXPECT_EQ(chat.quit(), 0);
}

// A model that writes nothing but the bytes that begin a terminal's commands, and letters behind them.
TEST(RunTerminal, WhatTheModelSays_CannotDriveTheTerminal) {
  const std::vector<std::string> hostile = {"run", "-p",       "x",   "-n",           "4",       "--temperature",
                                            "0",   "--device", "cpu", "--logit-bias", "215=1000"};
  const Finished escape = run_spate({"tokenize", "--json"}, "\x1b");
  ASSERT_EQ(escape.out, "{\"ids\":[215]}\n");
  EXPECT_EQ(run_spate(hostile).out, "\x1b\x1b\x1b\x1b\n") << "elsewhere the text is what it is";
  Terminal terminal(hostile);
  ASSERT_TRUE(terminal.wait_for("generated 4 tokens")) << terminal.screen();
  EXPECT_EQ(terminal.wait_exit(), 0);
  const std::string& screen = terminal.screen();
  for (size_t at = screen.find('\x1b'); at != std::string::npos; at = screen.find('\x1b', at + 1))
    EXPECT_EQ(screen.substr(at, 3), "\x1b[K") << "only the progress bar's own";
}

}  // namespace
}  // namespace spate::testing
