#include "chat/conversation.h"

#include <gmock/gmock.h>

#include "chat_testing.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;

TEST(Conversation, FromJson_KeepsEverything) {
  const Json json = Json::parse(R"({"messages": [
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
       "reasoning_content": "hm"},
      {"role": "tool", "content": "b", "name": "f", "tool_call_id": "1"},
      {"role": "assistant", "tool_calls": []}],
      "tools": [{"type": "function", "function": {"name": "f"}}], "add_generation_prompt": false,
      "enable_thinking": false})");
  EXPECT_EQ(conversation_of(json).to_json().dump(), json.dump());
}

TEST(Conversation, AbsentContent_IsNotNull) {
  EXPECT_FALSE(conversation_of({{"messages", {{{"role", "assistant"}}}}}).messages[0].content.has_value());
}

TEST(Message, ContentText_JoinsTheTextParts) {
  const Json parts =
      Json::parse(R"([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])");
  EXPECT_EQ((chat::Message{.role = "user", .content = parts}).content_text(), "ab");
  EXPECT_EQ((chat::Message{.role = "user", .content = "ab"}).content_text(), "ab");
  EXPECT_EQ((chat::Message{.role = "user", .content = nullptr}).content_text(), "");
}

TEST(Conversation, WhatIsWrong_IsNamedByItsPath) {
  const auto error_of = [](const char* json) {
    const Result<chat::Conversation> made = chat::Conversation::from_json(Json::parse(json));
    return made.ok() ? "" : made.error().message;
  };
  EXPECT_THAT(error_of("[]"), HasSubstr("object with `messages`"));
  EXPECT_THAT(error_of("{}"), HasSubstr("must have `messages`"));
  EXPECT_THAT(error_of(R"({"messages": {}})"), HasSubstr("messages: is no list"));
  EXPECT_THAT(error_of(R"({"messages": [1]})"), HasSubstr("messages[0]: is no object"));
  EXPECT_THAT(error_of(R"({"messages": [{"content": "x"}]})"), HasSubstr("messages[0]: has no `role`"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": ""}]})"), HasSubstr("messages[0].role"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user"}, {"role": "user", "content": 3}]})"),
              HasSubstr("messages[1].content: is neither"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": [{"text": "x"}]}]})"),
              HasSubstr("messages[0].content[0]: has no `type`"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})"),
              HasSubstr("messages[0].content[0]: is of the type text"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "assistant", "tool_calls": [{}]}]})"),
              HasSubstr("messages[0].tool_calls[0]: has no object `function`"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "a", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}]})"),
              HasSubstr("messages[0].tool_calls[0]: its arguments"));
  EXPECT_THAT(error_of(R"({"messages": [], "tools": {}})"), HasSubstr("tools: is no list"));
  EXPECT_THAT(error_of(R"({"messages": [], "add_generation_prompt": 1})"), HasSubstr("add_generation_prompt"));
}

TEST(ParseJson, SaysWhereItStops) {
  EXPECT_THAT(chat::parse_json("{\"a\": }", "x.json").error().message, HasSubstr("x.json: is not JSON from byte 7 on"));
  EXPECT_THAT(chat::parse_json("", "x.json").error().message, HasSubstr("x.json: is not JSON"));
  EXPECT_THAT(chat::parse_json("\"\xff\"", "x.json").error().message, HasSubstr("is not JSON from byte 2"));
  EXPECT_THAT(chat::parse_json("[1e999]", "x.json").error().message, HasSubstr("out of range"));
  EXPECT_EQ(chat::parse_json("[\"[[\\\"[[\"]", "x.json").value().dump(), "[\"[[\\\"[[\"]");
}

TEST(ParseJson, MemberNamedTwice_IsAnError) {
  EXPECT_EQ(chat::parse_json(R"({"a": [{"b": 1, "c": 2, "b": 3}]})", "x.json").error().message,
            "x.json: has the member 'b' twice");
}

TEST(ParseJson, NestedWithoutEnd_IsAnError) {
  for (const size_t depth : {201, 100'000}) {
    const std::string text = std::string(depth, '[') + std::string(depth, ']');
    EXPECT_THAT(chat::parse_json(text, "x.json").error().message, HasSubstr("nested more than 200 deep"));
  }
  EXPECT_TRUE(chat::parse_json(std::string(200, '[') + std::string(200, ']'), "x.json").ok());
}

TEST(ParseJson, ObjectWithoutEnd_IsAnError) {
  const auto object_of = [](int n_members) {
    std::string text = "{\"k\": [";
    for (int i = 1; i < n_members; ++i) text += fmt::format("{{\":{{\": 1}}{}", i + 1 < n_members ? ", " : "], ");
    for (int i = 1; i < n_members; ++i) text += fmt::format("\"{}\": {{}}{}", i, i + 1 < n_members ? ", " : "}");
    return text;
  };
  EXPECT_EQ(chat::parse_json(object_of(4096), "x.json").value().size(), 4096u);
  EXPECT_THAT(chat::parse_json(object_of(4097), "x.json").error().message,
              HasSubstr("x.json: has an object of more than 4096 members"));
}

}  // namespace
}  // namespace spate::testing
