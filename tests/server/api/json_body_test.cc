#include "server/api/json_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/api/api_testing.h"
#include "server/api/error_json.h"
#include "server/api/json_text.h"

namespace spate::testing {
namespace {

using api::parse_body;
using ::testing::HasSubstr;

std::string refusal(std::string_view body, const api::JsonLimits& limits = {}) {
  const ApiError error = error_of(parse_body(body, limits));
  EXPECT_EQ(error.status, 400);
  return error.message;
}

std::string repeated(std::string_view text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

TEST(JsonBody, Object_KeepsMembersInOrderAndValuesOfEveryKind) {
  const std::string text = R"({"z":1,"a":[true,null,-2,2.5,"x\u00e9",{"b":{}}],"m":18446744073709551615})";
  EXPECT_EQ(value_of(parse_body(text)).dump(),
            R"({"z":1,"a":[true,null,-2,2.5,"xé",{"b":{}}],"m":18446744073709551615})");
}

TEST(JsonBody, WhatIsNoJson_IsRefusedWithTheByte) {
  EXPECT_THAT(refusal(R"({"a":1,})"), HasSubstr("the body is not JSON from byte 8 on"));
  EXPECT_THAT(refusal(R"({"a":NaN})"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"a":1} x)"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"a":"unfinished)"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"a":"\ud800"})"), HasSubstr("not JSON"));  // half a surrogate pair
  EXPECT_THAT(refusal(""), HasSubstr("empty"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("no object"));
  EXPECT_THAT(refusal("null"), HasSubstr("no object"));
}

TEST(JsonBody, InvalidUtf8_IsRefusedWithTheByte) {
  EXPECT_THAT(refusal("{\"a\":\"b\xff\"}"), HasSubstr("not UTF-8 from byte 7"));
  EXPECT_THAT(refusal("{\"a\":\"\xed\xa0\x80\"}"), HasSubstr("not UTF-8 from byte 6"));
}

TEST(JsonBody, NumberThatNoDoubleHolds_IsRefused) {
  EXPECT_THAT(refusal(R"({"temperature":1e400})"), HasSubstr("out of range"));
  EXPECT_EQ(value_of(parse_body(R"({"n":1e9})"))["n"], 1e9);
}

TEST(JsonBody, MemberNamedTwice_IsRefusedWithItsPath) {
  const ApiError error =
      error_of(parse_body(R"({"messages":[{"a":1},{"role":"user","content":"x","role":"system"}]})"));
  EXPECT_THAT(error.message, HasSubstr("the member 'role' twice"));
  EXPECT_EQ(error.param, "messages[1]");
  EXPECT_EQ(error_of(parse_body(R"({"n":1,"n":2})")).param, std::nullopt);
}

TEST(JsonBody, DepthOverTheLimit_IsRefusedHoweverDeep) {
  const auto nested = [](size_t n) { return R"({"a":)" + repeated("[", n) + repeated("]", n) + "}"; };
  EXPECT_TRUE(parse_body(nested(9), {.max_depth = 10}).ok());
  EXPECT_THAT(refusal(nested(10), {.max_depth = 10}), HasSubstr("nested more than 10 deep"));
  EXPECT_THAT(refusal(R"({"a":)" + repeated("[", 1'000'000)), HasSubstr("nested more than 100 deep"));
  EXPECT_THAT(refusal(repeated(R"({"a":)", 1'000'000)), HasSubstr("nested more than 100 deep"));
}

TEST(JsonBody, MembersAndValuesOverTheLimits_AreRefused) {
  std::string members = "{";
  for (int i = 0; i < 100'000; ++i) members += fmt::format("{}\"k{}\":0", i > 0 ? "," : "", i);
  EXPECT_THAT(refusal(members + "}"), HasSubstr("more than 4096 members"));
  EXPECT_THAT(refusal(R"({"a":[1,2,3,4]})", {.max_values = 4}), HasSubstr("more than 4 values"));
  EXPECT_TRUE(parse_body(R"({"a":[1,2,3,4]})", {.max_values = 6}).ok());
}

TEST(JsonText, ControlCharactersQuotesAndBadBytes_ComeOutAsJson) {
  const std::string text = std::string("a\"\\\n\r\t\b\f\x01\x1f\0é", 13);
  EXPECT_EQ(parsed(api::json_text(text)).get<std::string>(), text);
  EXPECT_EQ(parsed(api::json_text("a\xff")).get<std::string>(), "a\xEF\xBF\xBD");
  EXPECT_EQ(api::json_text(std::string_view("\0", 1)), R"("\u0000")");
}

TEST(JsonText, Numbers_ReadBackAsTheSameFloat) {
  for (const float value : {0.0f, -0.25f, 1e-30f, 3.4e38f, 0.1f, -12345.678f}) {
    std::string text;
    api::append_json_number(text, value);
    EXPECT_EQ(parsed(text).get<float>(), value) << text;
  }
  std::string text;
  api::append_json_number(text, INFINITY);
  EXPECT_EQ(text, "null");
}

TEST(ErrorJson, HasOpenAiShape) {
  const Json error = parsed(api::error_json(ApiError::invalid("messages[2].role", "bad \"role\"")))["error"];
  EXPECT_EQ(error.dump(), R"({"message":"bad \"role\"","type":"invalid_request_error","param":"messages[2].role",)"
                          R"("code":"invalid_value"})");
  EXPECT_TRUE(parsed(api::error_json(ApiError::invalid("whole")))["error"]["param"].is_null());
}

TEST(ErrorJson, StatusGivesTheType) {
  const auto type = [](int status) { return parsed(api::error_json(status, "m", "c"))["error"]["type"]; };
  EXPECT_EQ(type(401), "invalid_request_error");  // as OpenAI says of a key that it does not know
  EXPECT_EQ(type(415), "invalid_request_error");
  EXPECT_EQ(type(429), "rate_limit_error");
  EXPECT_EQ(type(503), "server_error");
}

TEST(ErrorJson, ErrorsOfTheEngine_BecomeStatuses) {
  EXPECT_EQ(api::api_error(Error::usage("u")).status, 400);
  EXPECT_EQ(api::api_error(Error::out_of_resources("o")).status, 400);
  EXPECT_EQ(api::api_error(Error::backend("b")).status, 500);
  EXPECT_EQ(api::api_error(Error::interrupted("i")).status, 503);
  const ApiError busy = api::api_error(Error::busy("full"));
  EXPECT_EQ(busy.status, 429);
  EXPECT_GT(busy.retry_after_seconds, 0);
}

}  // namespace
}  // namespace spate::testing
