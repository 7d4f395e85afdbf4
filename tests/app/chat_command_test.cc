// spate chat without a terminal: each line of standard input is a message.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "app/subprocess.h"
#include "base/file.h"
#include "base/utf8.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

Finished chat(std::vector<std::string> arguments, std::string_view standard_input) {
  arguments.insert(arguments.begin(), {"chat", "--commands", "--temperature", "0", "-n", "8"});
  return run_spate(arguments, standard_input);
}

std::vector<std::string> endless_chat() {
  std::vector<std::string> arguments = endless_answers();
  arguments.insert(arguments.begin(), {"chat", "--temperature", "0"});
  return arguments;
}

json saved(const std::string& path) {
  return json::parse(read_file(path).value()).at("messages");
}

TEST(Chat, EachLine_IsATurn) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  const Finished finished =
      chat({"--system", "Be brief."}, "Tell me about the river.\n\r\n \nAnd the sea?\r\n/save " + path + "\n");
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const json messages = saved(path);
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0].at("content"), "Be brief.");
  EXPECT_EQ(messages[3].at("content"), "And the sea?");
  // The answers and nothing else: no prompts, no escapes.
  EXPECT_EQ(finished.out,
            messages[2].at("content").get<std::string>() + "\n" + messages[4].at("content").get<std::string>() + "\n");
}

TEST(Chat, ConversationThatWasLoaded_GoesOnAsItWouldHave) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  const Finished whole = chat({}, "Tell me about the river.\n/save " + path + "\nAnd the sea?\n");
  const Finished rest = chat({}, "/load " + path + "\nAnd the sea?\n");
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_NE(rest.out, "");
  EXPECT_TRUE(whole.out.ends_with("\n" + rest.out)) << whole.out << rest.out;
}

TEST(Chat, SecondTurn_ComputesOnlyWhatIsNew) {
  const Finished finished = chat({}, "Tell me about the river.\nAnd the sea?\n/stats\n");
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("2 turns; "));
  // The last token of a cut answer, its end token, and "\n<|im_start|>user\nAnd the
  // sea?<|im_end|>\n<|im_start|>assistant\n".
  EXPECT_THAT(finished.err,
              MatchesRegex("(.|\n)*last answer: prompt [0-9]+ tokens, 1[0-9] computed and [2-9][0-9] kept(.|\n)*"));
}

TEST(Chat, LastLineWithoutNewline_Counts) {
  EXPECT_NE(chat({}, "Tell me about the river.").out, "");
  const Finished nothing = chat({}, "");
  EXPECT_EQ(nothing.exit_code, 0);
  EXPECT_EQ(nothing.out + nothing.err, "");
}

TEST(Chat, AnyBytes_GiveValidText) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  const Finished finished = chat({}, std::string("\xff\x00\xe2\x82 \xf0\x9f\x1b[2J\n/save ", 18) + path);
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_TRUE(is_valid_utf8(finished.out));
  EXPECT_EQ(saved(path)[0].at("role"), "user");
}

TEST(Chat, FullWindow_IsAnErrorThatSaysWhatToDrop) {
  const std::string lines = "Tell me about the river.\nAnd the sea?\nAnd the hills?\nAnd the towns?\n";
  const Finished full = chat({"--ctx", "64"}, lines);
  EXPECT_EQ(full.exit_code, 6);
  EXPECT_THAT(full.err, MatchesRegex("(.|\n)*spate: the window of 64 tokens has no room for an answer: [^\n]*"
                                     "the oldest 1 of 2 turns: /drop 1, or --drop-oldest\n"));
  const Finished dropped = chat({"--ctx", "64", "--drop-oldest"}, lines);
  EXPECT_EQ(dropped.exit_code, 0);
  EXPECT_THAT(dropped.err, HasSubstr("; dropped the oldest 1 of 2 turns)"));
  EXPECT_EQ(std::count(dropped.out.begin(), dropped.out.end(), '\n'), 4);
  const Finished alone = chat({"--ctx", "64", "--drop-oldest"}, std::string(100'000, 'x'));
  EXPECT_EQ(alone.exit_code, 6);
  EXPECT_THAT(alone.err, HasSubstr("forgetting earlier turns would not help"));
}

TEST(Chat, DropAndReset_MakeRoom) {
  const Finished finished =
      chat({"--ctx", "64"},
           "Tell me about the river.\nAnd the sea?\n/drop\nAnd the hills?\n/drop 7\n/reset\n/drop\n/stats\n");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("(dropped 1; 1 turn left)"));
  EXPECT_THAT(finished.err, HasSubstr("(there are 2 turns to drop)"));
  EXPECT_THAT(finished.err, HasSubstr("(there are 0 turns to drop)"));
  EXPECT_THAT(finished.err, HasSubstr("(forgotten)"));
  EXPECT_THAT(finished.err, HasSubstr("0 turns; 0 of 64 tokens"));
  const Finished refused = chat({}, "/drop all\n");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.err, "spate: /drop takes a number of turns, and 'all' is none\n");
}

TEST(Chat, Commands) {
  const Finished finished =
      chat({}, "/help\n/system\n/system Be brief.\n/system\n/reset\n/system -\n/system\n/quit\nnot read\n");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err, HasSubstr("/save FILE"));
  EXPECT_THAT(finished.err, HasSubstr("(no system message)\n(set, for the whole conversation)\nBe brief.\n"
                                      "(forgotten, but for the system message)\n(no system message from here on)\n"
                                      "(no system message)\n"));
}

TEST(Chat, WithoutCommands_LinesThatBeginWithASlashAreMessages) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  const Finished plain =
      run_spate({"chat", "--temperature", "0", "-n", "8"}, "/save " + path + "\n/quit\n//x\n/nothing\n");
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_GE(std::count(plain.out.begin(), plain.out.end(), '\n'), 4);  // answers may have lines of their own
  // Every byte of a line is the message's.
  const Finished escaped = chat({}, "//save " + path + "\n//quit\n///x\n//nothing\n/save " + path + "\n");
  EXPECT_EQ(escaped.out, plain.out);
  const json messages = saved(path);
  ASSERT_EQ(messages.size(), 8u);
  EXPECT_EQ(messages[0].at("content"), "/save " + path);
  EXPECT_EQ(messages[4].at("content"), "//x");
}

TEST(Chat, WithoutCommands_NoneIsSuggested) {
  const Finished full = run_spate({"chat", "--temperature", "0", "-n", "8", "--ctx", "64"},
                                  "Tell me about the river.\nAnd the sea?\nAnd the hills?\n");
  EXPECT_EQ(full.exit_code, 6);
  EXPECT_THAT(full.err, HasSubstr("the oldest 1 of 2 turns: --drop-oldest\n"));
}

TEST(Chat, TwoSlashes_SendAMessageThatBeginsWithOne) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  ASSERT_EQ(chat({}, "//help\n/save " + path + "\n").exit_code, 0);
  EXPECT_EQ(saved(path)[0].at("content"), "/help");
}

TEST(Chat, Save_ReplacesNoOtherFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  {
    AtomicFile file = AtomicFile::create(path).value();
    ASSERT_TRUE(file.write("precious").ok() && file.commit().ok());
  }
  const Finished refused = chat({}, "/save " + path + "\n");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("exists; /save! replaces it"));
  EXPECT_EQ(read_file(path).value(), "precious");
  EXPECT_EQ(chat({}, "/save! " + path + "\n/save " + path + "\n").exit_code, 0);
  EXPECT_EQ(saved(path), json::array());
}

TEST(Chat, Save_IsForTheOwnerAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  std::ofstream(path) << "for all to see";
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(chat({}, "/save! " + path + "\n/save " + folder.path("new.json") + "\n").exit_code, 0);
  for (const std::string& each : {path, folder.path("new.json")}) {
    struct stat status = {};
    ASSERT_EQ(stat(each.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << each;
  }
}

TEST(Chat, SaveThatFails_LeavesTheOldFileAndNothingElse) {
  const TemporaryFolder folder;
  const std::string path = folder.path("conversation.json");
  ASSERT_EQ(chat({}, "/system Be brief.\n/save " + path + "\n").exit_code, 0);
  const std::string before = read_file(path).value();
  std::ofstream(folder.path("input")) << "/load " + path + "\n/system " + std::string(100'000, 'x') + "\n/save " + path;
  // As on a full disk: no file may grow beyond some blocks.
  const std::string command = "trap '' XFSZ; ulimit -f 8; exec '" SPATE_EXECUTABLE "' chat --commands <" +
                              folder.path("input") + " >/dev/null 2>" + folder.path("error");
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 3);
  EXPECT_THAT(read_file(folder.path("error")).value(),
              MatchesRegex("\\(loaded 0 turns\\)\n\\(set, for the whole conversation\\)\n"
                           "spate: [^\n]*cannot be written: File too large\n"));
  EXPECT_EQ(read_file(path).value(), before);
  const std::filesystem::directory_iterator left(folder.path("."));
  EXPECT_EQ(std::distance(begin(left), end(left)), 3) << "conversation, input, error";
}

TEST(Chat, Load_TakesFilesOfABoundedSizeOnly) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo(folder.path("fifo").c_str(), 0600), 0);
  std::ofstream(folder.path("large")).flush();
  ASSERT_EQ(truncate(folder.path("large").c_str(), (64 << 20) + 1), 0);
  const struct {
    std::string path, what;
  } cases[] = {{folder.path("fifo"), "is not a regular file"},
               {folder.path("."), "is not a regular file"},
               {"/dev/zero", "is not a regular file"},
               {folder.path("large"), "has more than 64 MiB"}};
  for (const auto& c : cases) {
    const Finished finished = chat({}, "/load " + c.path + "\n");
    EXPECT_EQ(finished.exit_code, 3) << c.path;
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n"));
    EXPECT_THAT(finished.err, HasSubstr(c.path + ": " + c.what));
  }
}

TEST(Chat, WhatGoesWrong_EndsWithOneLineAndItsExitCode) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, std::string_view text) {
    AtomicFile file = AtomicFile::create(folder.path(name)).value();
    EXPECT_TRUE(file.write(text).ok() && file.commit().ok());
    return folder.path(name);
  };
  const std::string refuses = write("refuses.jinja", "{{ raise_exception('not with me') }}");
  const std::string endless =
      write("endless.jinja", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
  const std::string broken = write("broken.jinja", "\n{% if %}");
  const std::string no_json = write("no.json", "{\"messages\": [");
  struct Case {
    std::vector<std::string> arguments;
    std::string input;
    int exit_code;
    std::string part;
  };
  for (const Case& c :
       std::vector<Case>{{{"--chat-template", refuses}, "x\n", 2, "not with me"},
                         {{"--chat-template", endless}, "x\n", 6, "endless.jinja"},
                         {{"--chat-template", broken}, "x\n", 4, "broken.jinja', line 2"},
                         {{"--chat-template", "/nonexistent"}, "x\n", 3, "/nonexistent"},
                         {{"--template-name", "rag"}, "x\n", 5, "no chat template named 'rag'"},
                         {{"--template-name", "rag", "--chat-template", refuses}, "", 2, "gives another"},
                         {{"--ctx", "0"}, "", 2, "'0'"},
                         {{}, "/nothing\n", 2, "no command '/nothing'"},
                         {{}, "/load " + no_json + "\n", 2, "is not JSON from byte 15"},
                         {{}, "/load /nonexistent\n", 3, "/nonexistent"},
                         {{}, "/save\n", 2, "name of a file"},
                         {{}, "/save /nonexistent/x\n", 3, "/nonexistent/x"}}) {
    const Finished finished = chat(c.arguments, c.input);
    EXPECT_EQ(finished.exit_code, c.exit_code) << c.part;
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n")) << c.part;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
    EXPECT_EQ(finished.out, "") << c.part;
  }
}

TEST(Chat, ModelWithoutATemplate_SuggestsAFile) {
  SPATE_REQUIRE_SHARED("models/stories260K.gguf");
  const std::string model = shared_path("models/stories260K.gguf");
  const Finished without = run_spate({"chat", model}, "x\n");
  EXPECT_EQ(without.exit_code, 5);
  EXPECT_THAT(without.err, HasSubstr("has no chat template"));
  EXPECT_THAT(without.err, HasSubstr("--chat-template FILE"));
  const Finished with = run_spate({"chat", model, "-n", "8", "--chat-template", fixture_path("chatml.jinja")}, "x\n");
  EXPECT_EQ(with.exit_code, 0) << with.err;
  EXPECT_NE(with.out, "");
}

TEST(Chat, Signals_EndItWithItsExitCode) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    SpateProcess process(endless_chat(), "Tell me about the river.\n");
    EXPECT_NE(process.read_some(), "");
    process.send_signal(signal);
    const Finished finished = process.finish();
    EXPECT_EQ(finished.exit_code, 8) << finished.err;
    EXPECT_THAT(finished.err,
                ::testing::EndsWith(signal == SIGINT ? "spate: stopped by Ctrl-C\n" : "spate: ended by a signal\n"));
  }
}

TEST(Chat, LineWithoutEnd_IsAnError) {
  const Finished finished = chat({}, std::string(9 << 20, 'x'));
  EXPECT_EQ(finished.exit_code, 6);
  EXPECT_THAT(finished.err, HasSubstr("a line of more than 8 MiB"));
}

TEST(Chat, ClosedStreams_AreErrors) {
  const std::string program = std::string(SPATE_EXECUTABLE) + " chat";
  EXPECT_EQ(WEXITSTATUS(std::system((program + " <&- >/dev/null 2>&1").c_str())), 3);
  EXPECT_EQ(WEXITSTATUS(std::system(("echo x | " + program + " -n 1 >&- 2>/dev/null").c_str())), 3);
}

TEST(Chat, ReaderThatLeaves_EndsItQuietly) {
  SpateProcess process(endless_chat(), "Tell me about the river.\n");
  EXPECT_NE(process.read_some(), "");
  process.close_stdout();
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
}

}  // namespace
}  // namespace spate::testing
