#include "load/answer_event.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"

namespace spate::load {
namespace {

using ::testing::HasSubstr;

TEST(AnswerEvent, TextOfEitherApi) {
  for (const char* data : {
           R"({"choices": [{"text": "a"}]})",
           R"({"choices": [{"delta": {"content": "a"}}]})",
           R"({"choices": [{"delta": {"content": null, "reasoning_content": "a"}}]})",
           R"({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]})",
           R"({"choices": [{"delta": {"content": ""}}, {"delta": {"content": "a"}}], "usage": null, "error": null})",
       })
    EXPECT_TRUE(parse_answer_event(data).value().has_text) << data;
  for (const char* data : {
           R"({"choices": [{"text": ""}]})",
           R"({"choices": [{"delta": {"role": "assistant"}}]})",
           R"({"choices": [{"delta": {"role": "assistant", "content": ""}}]})",
           R"({"choices": [{"delta": {}, "finish_reason": "stop"}]})",
           R"({"choices": []})",
           R"({})",
       })
    EXPECT_FALSE(parse_answer_event(data).value().has_text) << data;
}

TEST(AnswerEvent, Usage) {
  const AnswerEvent event =
      parse_answer_event(R"({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 34}})").value();
  EXPECT_EQ(event.prompt_tokens, 12);
  EXPECT_EQ(event.completion_tokens, 34);
  const AnswerEvent odd = parse_answer_event(R"({"usage": {"prompt_tokens": -1, "completion_tokens": 1e99}})").value();
  EXPECT_FALSE(odd.prompt_tokens || odd.completion_tokens);
}

TEST(AnswerEvent, Done) {
  EXPECT_TRUE(parse_answer_event("[DONE]").value().is_done);
  EXPECT_FALSE(parse_answer_event("{}").value().is_done);
}

TEST(AnswerEvent, ErrorOfTheServer) {
  EXPECT_EQ(parse_answer_event(R"({"error": {"message": "out of\npages", "code": 500}})").value().error,
            "out of pages");
  EXPECT_EQ(parse_answer_event(R"({"error": "no"})").value().error, "no");
  EXPECT_EQ(parse_answer_event(R"({"error": {"code": 5}})").value().error, R"({"error": {"code": 5}})");
  const std::string deep = R"({"error": )" + std::string(1 << 20, '[') + std::string(1 << 20, ']') + "}";
  EXPECT_THAT(parse_answer_event(deep).value().error.value_or(""), ::testing::StartsWith(R"({"error": [[[[)"));
}

TEST(AnswerEvent, WhatIsNone_IsAnError) {
  for (const char* data :
       {"", "x", "[1]", "{\"choices\": [", "\"[DONE]\"", R"({"choices": {}})", R"({"choices": [1]})", "{\"\xff\": 1}"})
    EXPECT_FALSE(parse_answer_event(data).ok()) << data;
  const std::string message = parse_answer_event("\x1b[2J\xff" + std::string(1000, 'x')).error().message;
  EXPECT_TRUE(is_valid_utf8(message));
  EXPECT_LT(message.size(), 300u);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

TEST(ErrorText, OfABody) {
  EXPECT_EQ(error_text(R"({"error": {"message": "too many requests", "type": "x"}})"), "too many requests");
  EXPECT_EQ(error_text(R"({"message": "no"})"), "no");
  EXPECT_EQ(error_text("<html>\n502"), "<html> 502");
  EXPECT_EQ(error_text(""), "");
}

}  // namespace
}  // namespace spate::load
