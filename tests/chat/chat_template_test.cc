#include "chat/chat_template.h"

#include <gmock/gmock.h>

#include "chat_testing.h"

namespace spate::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file with these templates, by key.
GgufFile file_with(const std::vector<std::pair<std::string, std::string>>& templates) {
  GgufWriter writer = byte_level_file();
  for (const auto& [key, source] : templates) writer.set(key, source);
  const TemporaryFolder folder;
  EXPECT_TRUE(writer.write(folder.path("model.gguf")).ok());
  return GgufFile::open(folder.path("model.gguf")).value();
}

TEST(ChatTemplate, PublishedCases_AreAsExpected) {
  SPATE_REQUIRE_SHARED("golden/templates");
  const Json cases = published_json("cases.json");
  int n_texts = 0, n_refusals = 0, n_free = 0;
  for (const std::string& name : published_templates()) {
    const chat::ChatTemplate chat_template = published_template(name);
    const Json expected = published_json(name + ".expected.json");
    for (const auto& [case_name, values] : cases.items()) {
      SCOPED_TRACE(name + ": " + case_name);
      const Result<chat::Rendered> rendered = chat_template.render(conversation_of(values), kNames);
      const Json& outcome = expected.at(case_name);
      if (outcome.contains("text")) {
        ++n_texts;
        EXPECT_EQ(text_or_error(rendered), outcome["text"].get<std::string>());
      } else if (const std::string error = outcome["error"]; error.starts_with("TemplateError: ")) {
        ++n_refusals;
        ASSERT_FALSE(rendered.ok());
        EXPECT_THAT(rendered.error().message, ::testing::EndsWith(": " + error.substr(15)));
        EXPECT_EQ(rendered.error().code, ErrorCode::kUsage);
      } else {
        ++n_free;  // Python's own trouble
      }
    }
  }
  EXPECT_EQ(n_texts + n_refusals + n_free, 416);
  std::printf("%d texts equal, %d refusals, %d free\n", n_texts, n_refusals, n_free);
}

TEST(ChatTemplate, FromGguf_TakesTheDefaultAndTheOneForTools) {
  const GgufFile file = file_with({{"tokenizer.chat_template", "plain"},
                                   {"tokenizer.chat_template.tool_use", "with tools"},
                                   {"tokenizer.chat_template.rag", "from documents"}});
  EXPECT_THAT(chat::ChatTemplate::names(file), ElementsAre("default", "tool_use", "rag"));
  chat::Conversation conversation = one_message("x");
  const auto rendered = [&](std::string_view name) {
    return text_or_error(chat::ChatTemplate::from_gguf(file, name).value().render(conversation, kNames));
  };
  EXPECT_EQ(rendered(""), "plain");
  EXPECT_EQ(rendered("rag"), "from documents");
  conversation.tools = Json::array({{{"type", "function"}}});
  EXPECT_EQ(rendered(""), "with tools");
  EXPECT_EQ(rendered("default"), "plain");
  EXPECT_EQ(rendered("rag"), "from documents");
}

TEST(ChatTemplate, FromGguf_WithoutOne_SuggestsAFile) {
  const Error none = chat::ChatTemplate::from_gguf(file_with({})).error();
  EXPECT_EQ(none.code, ErrorCode::kUnsupported);
  EXPECT_THAT(none.message, HasSubstr("model.gguf: has no chat template"));
  EXPECT_THAT(none.message, HasSubstr("--chat-template FILE"));
  const Error other = chat::ChatTemplate::from_gguf(file_with({{"tokenizer.chat_template", ""}}), "rag").error();
  EXPECT_THAT(other.message, HasSubstr("no chat template named 'rag', but: default"));
}

TEST(ChatTemplate, WhatDoesNotParse_IsABadFileNamedByItsKey) {
  const Error error = chat::ChatTemplate::from_gguf(file_with({{"tokenizer.chat_template", "\n{% if %}"}})).error();
  EXPECT_EQ(error.code, ErrorCode::kBadFile);
  EXPECT_THAT(error.message, HasSubstr("model.gguf: template 'tokenizer.chat_template', line 2"));
  EXPECT_EQ(chat::ChatTemplate::from_file("/nonexistent/x.jinja").error().code, ErrorCode::kIo);
}

TEST(ChatTemplate, WhatItComplainsOf_SaysNothingOfPaths) {
  const GgufFile file = file_with({{"tokenizer.chat_template", "{{ raise_exception('no') }}"}});
  EXPECT_EQ(chat::ChatTemplate::from_gguf(file).value().render(one_message("x"), kNames).error().message,
            "template 'tokenizer.chat_template', line 1: no");
}

TEST(ChatTemplate, NamesAndVariables_AreThere) {
  chat::Conversation conversation = one_message("x");
  conversation.variables["enable_thinking"] = false;
  const auto rendered = [&](std::string_view source, const chat::TemplateNames& names = kNames) {
    return text_or_error(template_of(source).render(conversation, names));
  };
  EXPECT_EQ(rendered("{{ bos_token }}{{ eos_token }}{{ enable_thinking }}{{ add_generation_prompt }}"),
            "<s></s>FalseTrue");
  EXPECT_EQ(rendered("{{ pad_token is defined }}{{ tools is defined }}{{ strftime_now('%Y') }}"), "FalseFalse2026");
  EXPECT_THAT(rendered("{{ strftime_now('%Y') }}", {}), HasSubstr("error: "));
  EXPECT_EQ(rendered("{{ bos_token + 'x' }}", {}), "x");  // of a vocabulary without BOS
  EXPECT_THAT(rendered("{{ raise_exception('no\nway') }}"), HasSubstr("no way"));
}

// Most templates print content; given a list of parts, they would print Python's idea of a list.
TEST(ChatTemplate, TextParts_AreJoinedForTemplatesThatPrintContent) {
  const Json parts = Json::parse(R"([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])");
  chat::Conversation conversation = conversation_of({{"messages", {{{"role", "user"}, {"content", parts}}}}});
  EXPECT_EQ(text_or_error(template_of("{{ messages[0].content }}").render(conversation, kNames)), "ab");
  EXPECT_EQ(text_or_error(template_of("{{ 'x' + messages[0].content }}").render(conversation, kNames)), "xab");
  const auto takes_parts =
      template_of("{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}");
  EXPECT_EQ(text_or_error(takes_parts.render(conversation, kNames)), "[a][b]");
}

TEST(ChatTemplate, ArgumentsAsText_BecomeAnObjectWhereThatIsPrintable) {
  const auto conversation = conversation_of(Json::parse(R"({"messages": [{"role": "user", "content": "x"},
      {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}}]}]})"));
  const auto rendered = [&](const std::string& print) {
    const std::string source =
        "{% for m in messages %}{% for c in m.tool_calls %}" + print + "{% endfor %}{% endfor %}";
    return text_or_error(template_of(source).render(conversation, kNames));
  };
  EXPECT_EQ(rendered("{{ c.function.arguments | tojson }}"), R"({"b": 1, "a": 2})");
  EXPECT_EQ(rendered("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}"), "b=1;a=2;");
  EXPECT_EQ(rendered("{{ c.function.arguments }}"), R"({"b": 1, "a": 2})");
  EXPECT_EQ(rendered("{{ '<' + c.function.arguments + '>' }}"), R"(<{"b": 1, "a": 2}>)");
}

// Clients send null beside tool calls, as they were given it.
TEST(ChatTemplate, NoContent_IsEmptyForTemplatesThatCannotPrintNull) {
  const auto rendered = [](const std::string& member, const std::string& print) {
    const auto conversation = conversation_of(Json::parse(R"({"messages": [{"role": "user", "content": "x"},
        {"role": "assistant", )" + member + R"("tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]})"));
    const std::string source = "{% for m in messages %}" + print + "{% endfor %}";
    return text_or_error(template_of(source).render(conversation, kNames));
  };
  for (const std::string member : {R"("content": null, )", ""}) {
    EXPECT_EQ(rendered(member, "{{ '<' + m.content + '>' }}"), "<x><>");
    EXPECT_EQ(rendered(member, "{{ m['content'] | trim }};"), "x;;");
  }
  EXPECT_EQ(rendered(R"("content": null, )", "{{ 'calls' if m.content is none else m.content }} "), "x calls ");
}

}  // namespace
}  // namespace spate::testing
