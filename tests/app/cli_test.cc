// The command line as a whole: help, errors, exit codes.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "app/command.h"
#include "app/subprocess.h"
#include "base/file.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Exactly one line, from us, on stderr; nothing on stdout.
void expect_error(const Finished& finished, int exit_code, const std::string& part) {
  EXPECT_EQ(finished.exit_code, exit_code) << finished.err;
  EXPECT_THAT(finished.err, StartsWith("spate: "));
  EXPECT_THAT(finished.err, HasSubstr(part));
  EXPECT_THAT(finished.err, EndsWith("\n"));
  EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
  EXPECT_EQ(finished.out, "");
}

TEST(CommandLine, Help_ListsEveryCommandAndTheExitCodes) {
  const Finished finished = run_spate({"--help"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
  for (const app::Command* command : app::all_commands())
    EXPECT_THAT(finished.out, HasSubstr(std::string(command->summary)));
  EXPECT_THAT(finished.out, HasSubstr("Exit codes:"));
}

TEST(CommandLine, HelpOfEveryCommand_HasAnExampleThatNamesIt) {
  ASSERT_FALSE(app::all_commands().empty());
  for (const app::Command* command : app::all_commands()) {
    const std::string name(command->name);
    const Finished finished = run_spate({name, "--help"});
    EXPECT_EQ(finished.exit_code, 0) << name;
    EXPECT_EQ(finished.err, "") << name;
    const size_t examples = finished.out.find("Examples:");
    ASSERT_NE(examples, std::string::npos) << name;
    EXPECT_THAT(finished.out.substr(examples), HasSubstr("spate " + name)) << name;
  }
}

TEST(CommandLine, Version_IsOneLine) {
  const Finished finished = run_spate({"--version"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out, ::testing::MatchesRegex("spate [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(CommandLine, UsageErrors_ExitWith2) {
  expect_error(run_spate({}), 2, "no command given");
  expect_error(run_spate({"frobnicate"}), 2, "no command is named 'frobnicate'; `spate --help` lists them");
  expect_error(run_spate({"--frobnicate"}), 2, "--frobnicate");
  expect_error(run_spate({"tokenize", "--frobnicate"}), 2, "--frobnicate");
  expect_error(run_spate({"tokenize", "--frobnicate"}), 2, "spate tokenize --help");
  expect_error(run_spate({"run", "-p", "x", "-n", "many"}), 2, "'many'");
  expect_error(run_spate({"run", "-p", "x", "-n", ""}), 2, "''");
  expect_error(run_spate({"run", "-p", "x", "--top-p", "1.5"}), 2, "from 0 to 1");
  expect_error(run_spate({"run", "-p", "x", "--temperature", "nan"}), 2, "'nan'");
  expect_error(run_spate({"run", "-p", "x", "--device", "abacus"}), 2, "abacus");
  expect_error(run_spate({"run", "-p", "x", "--isa", "abacus"}), 2, "abacus");
  expect_error(run_spate({"run", "-p", "x", "--logit-bias", "12"}), 2, "ID=BIAS");
  expect_error(run_spate({"run", "-p", "x", "--seed", "-1"}), 2, "'-1'");
  expect_error(run_spate({"inspect", "--log", "shout"}), 2, "shout");
}

// As a script writes them whose variable is not set: what the option is for would be missing without a word.
TEST(CommandLine, EmptyValues_AreRefused_ButTexts) {
  const std::vector<std::vector<std::string>> cases = {
      {"--api-key-file", "serve", "--api-key-file", ""},
      {"--tls-cert", "serve", "--tls-cert", "", "--tls-key", ""},
      {"--host", "serve", "--host", ""},
      {"--alias", "serve", "--alias", "", "--alias", "a"},
      {"--cors-origin", "serve", "--cors-origin", ""},
      {"--chat-template", "run", "--chat", "-p", "x", "--chat-template", ""},
      {"--isa", "run", "-p", "x", "--isa", ""},
      {"MODEL", "run", "", "-p", "x"},
      {"MODEL", "serve", ""},
      {"OUT", "synth", "tiny", "q8_0", ""},
      {"--ca-file", "load", "https://127.0.0.1:1", "--ca-file", ""}};
  for (const std::vector<std::string>& arguments : cases)
    expect_error(run_spate({arguments.begin() + 1, arguments.end()}), 2, arguments.front() + ": '' is no value");
  expect_error(run_spate({"run", "-p", ""}), 2, "prompt is empty");
  const Finished text = run_spate({"template", "--bos", "", "-"}, R"({"messages": []})");
  EXPECT_EQ(text.exit_code, 0) << text.err;
}

TEST(CommandLine, NumbersOutOfRange_AreToldBothBounds) {
  expect_error(run_spate({"serve", "--port", "70000"}), 2, "from 0 to 65535");
  expect_error(run_spate({"run", "-p", "x", "-n", "2147483648"}), 2, "from 0 to 2147483647");
}

TEST(CommandLine, ControlCharactersInAnError_AreEscaped) {
  expect_error(run_spate({"inspect", "a\nb\x1b[2J"}), 3, "a\\nb\\x1b[2J");
}

TEST(CommandLine, FilesThatCannotBeRead_ExitWith3) {
  for (const char* command : {"run", "inspect", "tokenize", "perplexity"}) {
    std::vector<std::string> missing{command, "/nonexistent/model.gguf"}, folder{command, "/tmp"};
    for (auto* arguments : {&missing, &folder}) {
      if (std::string(command) == "run") arguments->insert(arguments->end(), {"-p", "x"});
      if (std::string(command) == "perplexity") arguments->push_back(fixture_path("demo/golden.json"));
    }
    expect_error(run_spate(missing), 3, "/nonexistent/model.gguf");
    expect_error(run_spate(folder), 3, "/tmp");
  }
}

TEST(CommandLine, AFileThatIsNoModel_ExitsWith4) {
  const std::string text = fixture_path("demo/golden.json");
  expect_error(run_spate({"run", text, "-p", "x"}), 4, text);
  expect_error(run_spate({"inspect", text}), 4, text);
  expect_error(run_spate({"inspect", text, "--json"}), 4, text);
  expect_error(run_spate({"tokenize", text}), 4, text);
}

TEST(CommandLine, ReaderThatLeaves_EndsQuietly) {
  SpateProcess process({"inspect", "--full"});
  process.close_stdout();
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.signal, 0);
  EXPECT_EQ(finished.err, "");
}

TEST(CommandLine, OutputThatCannotBeWritten_ExitsWith3) {
  const TemporaryFolder folder;
  const std::string errors = folder.path("stderr");
  for (const std::string arguments : {"inspect", "--help", "--version", "run --help"}) {
    const std::string command = "'" SPATE_EXECUTABLE "' " + arguments + " > /dev/full 2> '" + errors + "'";
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << arguments;
    EXPECT_EQ(WEXITSTATUS(status), 3) << arguments;
    EXPECT_EQ(read_file(errors).value(), "spate: standard output: No space left on device\n") << arguments;
  }
}

TEST(CommandLine, FileThatMayNotGrow_ExitsWith3AndLeavesNothing) {
  const TemporaryFolder folder, errors;
  const std::string command = "ulimit -f 100; '" SPATE_EXECUTABLE "' synth tiny q8_0 '" + folder.path("out.gguf") +
                              "' 2> '" + errors.path("stderr") + "'";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_EQ(read_file(errors.path("stderr")).value(),
            "spate: " + folder.path("out.gguf") + ": cannot be written: File too large\n");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
}

TEST(CommandLine, InputsThatNeverEnd_ExitWith3) {
  expect_error(run_spate({"template", "--file", "/dev/zero", "-"}, "{\"messages\": []}"), 3,
               "/dev/zero: has more than");
  expect_error(run_spate({"run", "--chat", "-p", "x", "--chat-template", "/dev/zero"}), 3, "/dev/zero: has more than");
}

TEST(CommandLine, BadEnvironmentVariables_AreNamed) {
  const TemporaryFolder folder;
  const std::string errors = folder.path("stderr");
  for (const std::string name : {"SPATE_ISA", "SPATE_LOG"}) {
    const std::string command = name + "=abacus '" SPATE_EXECUTABLE "' run -p x -n 1 --device cpu 2> '" + errors + "'";
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << name;
    EXPECT_EQ(WEXITSTATUS(status), 2) << name;
    EXPECT_THAT(read_file(errors).value(), StartsWith("spate: " + name + ": "));
  }
}

TEST(CommandLine, ThreadsThatTheSystemRefuses_ExitWith6) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than this test leaves";
#endif
  const TemporaryFolder folder;
  const std::string errors = folder.path("stderr");
  // A thread's stack of 8 MiB: 2 GiB of address space hold the model and far fewer than 1,024 of them.
  const int status = std::system(
      ("ulimit -s 8192; ulimit -v 2000000; '" SPATE_EXECUTABLE "' run -p x -n 1 --threads 1024 2> '" + errors + "'")
          .c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 6);
  EXPECT_THAT(read_file(errors).value(), HasSubstr("spate: the system refused a thread: "));
}

}  // namespace
}  // namespace spate::testing
