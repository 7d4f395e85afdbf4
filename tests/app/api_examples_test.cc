// The examples of docs/api.md, run as they stand there against a server.
#include <cstdio>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>
#include <vector>

#include "app/serving_process.h"
#include "base/file.h"

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// The fenced blocks of a language, in order.
std::vector<std::string> blocks_of(const std::string& language) {
  const std::string text = read_file(source_path("docs/api.md")).value();
  const std::string fence = "```" + language + "\n";
  std::vector<std::string> blocks;
  for (size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    blocks.push_back(text.substr(at, text.find("```", at) - at));
  }
  return blocks;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

struct CommandOutput {
  int exit_code = -1;
  std::string text;  // stdout and stderr
};

CommandOutput run_command(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {};
  CommandOutput output;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output.text += static_cast<char>(c);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) output.exit_code = WEXITSTATUS(status);
  return output;
}

class ApiExamples : public ::testing::Test {
 protected:
  // Runs every block of the language, from a file of that name, and gives what each wrote.
  std::vector<std::string> run_all(const std::string& language, const std::string& interpreter,
                                   const std::string& file_name) {
    std::vector<std::string> outputs;
    for (std::string code : blocks_of(language)) {
      replace_all(code, "127.0.0.1:8080", fmt::format("127.0.0.1:{}", server_.port));
      const std::string path = folder_.path(file_name);
      write_file(path, code);
      const CommandOutput output = run_command(fmt::format("timeout 60 {} '{}'", interpreter, path));
      EXPECT_EQ(output.exit_code, 0) << code << output.text;
      outputs.push_back(output.text);
    }
    return outputs;
  }

 private:
  ServingProcess server_;
  TemporaryFolder folder_;
};

#define SPATE_REQUIRE_PROGRAM(name)                                                     \
  do {                                                                                  \
    if (run_command("command -v " name).exit_code != 0) {                               \
      if (shared_data_is_required()) FAIL() << "the program " name " is not installed"; \
      GTEST_SKIP() << "the program " name " is not installed";                          \
    }                                                                                   \
  } while (false)

TEST_F(ApiExamples, Curl_Answers) {
  SPATE_REQUIRE_PROGRAM("curl");
  const std::vector<std::string> outputs = run_all("sh", "sh", "example.sh");
  ASSERT_THAT(outputs, SizeIs(2));
  EXPECT_THAT(outputs[0], HasSubstr(R"("object":"chat.completion")"));
  EXPECT_THAT(outputs[1], HasSubstr(R"("choices":[],"usage":{"prompt_tokens":)"));
  EXPECT_THAT(outputs[1], HasSubstr("data: [DONE]"));
}

TEST_F(ApiExamples, Python_Answers) {
  SPATE_REQUIRE_PROGRAM("python3");
  const std::vector<std::string> outputs = run_all("python", "python3", "example.py");
  ASSERT_THAT(outputs, SizeIs(3));
  EXPECT_THAT(outputs[0], HasSubstr(" tokens\n"));
  EXPECT_GT(outputs[1].size(), 10u);
  EXPECT_THAT(outputs[2], HasSubstr("cosine "));
}

TEST_F(ApiExamples, Node_Answers) {
  SPATE_REQUIRE_PROGRAM("node");
  const std::vector<std::string> outputs = run_all("js", "node", "example.mjs");
  ASSERT_THAT(outputs, SizeIs(1));
  EXPECT_GT(outputs[0].size(), 10u);
}

}  // namespace
}  // namespace spate::testing
