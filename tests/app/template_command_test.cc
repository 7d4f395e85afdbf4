// spate template, and spate run --chat.
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/subprocess.h"
#include "base/file.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const std::string kHello = R"({"messages": [{"role": "user", "content": "Hi <|im_end|> there"}]})";

TEST(Template, OfTheModel_IsPrintedAsItIs) {
  const Finished finished = run_spate({"template", "-"}, kHello);
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.out, "<|im_start|>user\nHi <|im_end|> there<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(run_spate({"template", bundled_model_path(), "-"}, kHello).out, finished.out);
}

TEST(Template, OfAFile_TakesNamesAndTime) {
  const TemporaryFolder folder;
  const std::string path = folder.path("x.jinja"), values = folder.path("case.json");
  std::ofstream(path) << "{{ bos_token }}|{{ eos_token }}|{{ strftime_now('%A %Y-%m-%d %H:%M:%S %j') }}|{{ more }}";
  std::ofstream(values) << R"({"messages": [], "more": [1]})";
  const Finished finished =
      run_spate({"template", "--file", path, "--bos", "<s>", "--eos", "</s>", "--now", "2026-03-14 15:09:26", values});
  EXPECT_EQ(finished.out, "<s>|</s>|Saturday 2026-03-14 15:09:26 073|[1]") << finished.err;
  EXPECT_EQ(run_spate({"template", "--file", path, values, "--now", "2026-03-14T15:09:26"}).out.substr(0, 17),
            "||Saturday 2026-0");
  EXPECT_EQ(run_spate({"template", "--file", path, values, "--now", "1969-12-31 23:59:59"}).out,
            "||Wednesday 1969-12-31 23:59:59 365|[1]");
}

TEST(Template, PublishedCases_ThroughTheCommand) {
  SPATE_REQUIRE_SHARED("golden/templates");
  const std::string folder = shared_path("golden/templates/");
  const Json cases = Json::parse(read_file(folder + "cases.json").value());
  for (const char* name : {"Qwen-Qwen3-0.6B", "meta-llama-Llama-3.1-8B-Instruct", "openai-gpt-oss-120b"}) {
    const Json expected = Json::parse(read_file(folder + name + ".expected.json").value());
    for (const char* case_name : {"multi_turn", "tool_round"}) {
      const Finished finished = run_spate({"template", "--file", folder + name + ".jinja", "--bos", "<s>", "--eos",
                                           "</s>", "--now", "2026-03-14 15:09:26", "-"},
                                          cases.at(case_name).dump());
      ASSERT_TRUE(expected.at(case_name).contains("text")) << name << case_name;
      EXPECT_EQ(finished.out, expected.at(case_name).at("text").get<std::string>()) << name << ": " << case_name;
    }
  }
}

TEST(Template, Ids_TellTheTemplatesTokensFromTheMessages) {
  const auto ids_of = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"template", "--ids"});
    arguments.emplace_back("-");
    const Finished finished = run_spate(arguments, kHello);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    return Json::parse(finished.out).at("ids").get<std::vector<int>>();
  };
  constexpr int kImEnd = 16383;  // of the bundled model
  const auto strict = ids_of({}), relaxed = ids_of({"--special-in-messages"});
  EXPECT_EQ(std::count(strict.begin(), strict.end(), kImEnd), 1);
  EXPECT_EQ(std::count(relaxed.begin(), relaxed.end(), kImEnd), 2);
}

TEST(Template, WhatCannotBeRendered_IsOneLineWithItsExitCode) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, const char* text) {
    std::ofstream(folder.path(name)) << text;
    return folder.path(name);
  };
  const std::string refuses = write("refuses.jinja", "\n{{ raise_exception('roles must\nalternate') }}");
  const std::string fails = write("fails.jinja", "{{ missing.attribute.of }}");
  const std::string broken = write("broken.jinja", "{% for %}");
  const std::string bytes = write("bytes.jinja", "\xff{{ messages|length }}");
  const std::string long_one = write("long.jinja", "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}");
  struct Case {
    std::vector<std::string> arguments;
    std::string input;
    int exit_code;
    std::string part;
  };
  for (const Case& c :
       std::vector<Case>{{{}, "", 2, "no conversation"},
                         {{bundled_model_path()}, "", 2, "no conversation named beside the model"},
                         {{"/dev/zero"}, "", 3, "has more than 64 MiB"},
                         {{"--file", refuses, "-"}, kHello, 2, "refuses.jinja', line 2: roles must alternate"},
                         {{"--file", fails, "-"}, kHello, 5, "fails.jinja', line 1"},
                         {{"--file", broken, "-"}, kHello, 4, "broken.jinja', line 1"},
                         {{"--file", long_one, "-"}, kHello, 6, "long.jinja"},
                         {{"--file", "/nonexistent", "-"}, kHello, 3, "/nonexistent"},
                         {{"--file", refuses, "a", "b"}, kHello, 2, "not both"},
                         {{"--file", refuses, "--ids", "-"}, kHello, 2, "--ids"},
                         {{"--now", "yesterday", "-"}, kHello, 2, "'yesterday'"},
                         {{"--now", "2026-02-30 00:00:00", "-"}, kHello, 2, "no such day"},
                         {{"-"}, "", 2, "standard input: is not JSON"},
                         {{"-"}, "[]", 2, "standard input: a conversation must be"},
                         {{"-"}, "{\"messages\": \"\xff\"}", 2, "is not JSON from byte 15"},
                         {{"-"}, std::string(9999, '['), 2, "nested more than 200 deep"},
                         {{"/nonexistent.gguf", "-"}, kHello, 3, "/nonexistent.gguf"},
                         {{"--template-name", "rag", "-"}, kHello, 5, "named 'rag', but: default"}}) {
    std::vector<std::string> arguments{"template"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const Finished finished = run_spate(arguments, c.input);
    EXPECT_EQ(finished.exit_code, c.exit_code) << c.part << finished.out.substr(0, 200);
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n")) << c.part;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
  }
  EXPECT_EQ(run_spate({"template", "--file", bytes, "-"}, kHello).out,
            "\xFF\x31");  // a template of any bytes is none of these
}

Json run_json(std::vector<std::string> arguments, std::string_view standard_input = {}) {
  arguments.insert(arguments.begin(), {"run", "--json", "--temperature", "0"});
  const Finished finished = run_spate(arguments, standard_input);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  return Json::parse(finished.out);
}

TEST(RunChat, IsTheRawPromptWithTheTemplateAroundTheMessage) {
  const Json raw =
      run_json({"-n", "12", "-p",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTell me about the river.<|im_end|>\n"
                "<|im_start|>assistant\n"});
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{}, {"--chat-template", fixture_path("chatml.jinja")}}) {
    std::vector<std::string> arguments{"-n", "12", "--chat", "--system", "Be brief.", "-p", "Tell me about the river."};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Json chat = run_json(arguments);
    EXPECT_EQ(chat.at("token_ids"), raw.at("token_ids"));
    EXPECT_EQ(chat.at("prompt_tokens"), raw.at("prompt_tokens"));
  }
}

TEST(RunChat, SpecialTokensInTheMessage_AreTextUnlessAskedFor) {
  const Json strict = run_json({"-n", "0", "--chat", "-p", "-"}, "<|im_end|>");
  const Json relaxed = run_json({"-n", "0", "--chat", "-p", "-", "--special-in-messages"}, "<|im_end|>");
  EXPECT_GT(strict.at("prompt_tokens").get<int>(), relaxed.at("prompt_tokens").get<int>());
}

TEST(RunChat, WhatCannotRun_IsOneLineWithItsExitCode) {
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    std::string part;
  };
  for (const Case& c : std::vector<Case>{{{"-p", "x", "--system", "y"}, 2, "--chat"},
                                         {{"-p", "x", "--chat", "--no-special"}, 2, "--no-special"},
                                         {{"-p", "x", "--chat", "--chat-template", "/nonexistent"}, 3, "/nonexistent"},
                                         {{"-p", "x", "--chat", "--template-name", "y"}, 5, "named 'y'"}}) {
    std::vector<std::string> arguments{"run"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const Finished finished = run_spate(arguments);
    EXPECT_EQ(finished.exit_code, c.exit_code) << c.part;
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n")) << c.part;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
  }
}

}  // namespace
}  // namespace spate::testing
