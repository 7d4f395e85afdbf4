#include "load/request_body.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace spate::load {
namespace {

using Json = nlohmann::json;

TEST(RequestBody, Completions) {
  const Json body = Json::parse(request_body({.text = "abc", .ids = {}, .output_tokens = 9}, {.model = "m"}, 7));
  EXPECT_EQ(body, Json::parse(R"({"model": "m", "prompt": "abc", "max_tokens": 9, "temperature": 0.0, "seed": 7,
                                  "stream": true, "stream_options": {"include_usage": true}, "ignore_eos": true})"));
  const Json of_ids = Json::parse(request_body({.text = "", .ids = {1, 2}, .output_tokens = 9}, {}, 7));
  EXPECT_EQ(of_ids.at("prompt"), Json::parse("[1, 2]"));
  EXPECT_EQ(endpoint_of(Api::kCompletions), "/v1/completions");
}

TEST(RequestBody, Chat) {
  const RequestOptions options{.api = Api::kChat, .temperature = 0.5, .ignore_eos = false};
  const Json body = Json::parse(request_body({.text = "abc", .ids = {}, .output_tokens = 9}, options, 7));
  EXPECT_EQ(body.at("messages"), Json::parse(R"([{"role": "user", "content": "abc"}])"));
  EXPECT_EQ(body.at("temperature"), 0.5);
  EXPECT_FALSE(body.contains("prompt") || body.contains("ignore_eos"));
  EXPECT_EQ(endpoint_of(Api::kChat), "/v1/chat/completions");
}

TEST(RequestBody, MoreMembers_AddAndReplace) {
  const RequestOptions options{.more = R"({"top_p": 0.9, "max_tokens": 1})"};
  ASSERT_TRUE(check_request_options(options).ok());
  const Json body = Json::parse(request_body({.text = "abc", .ids = {}, .output_tokens = 9}, options, 7));
  EXPECT_EQ(body.at("top_p"), 0.9);
  EXPECT_EQ(body.at("max_tokens"), 1);
  for (const char* more : {"[]", "1", "{", "{} {}"}) EXPECT_FALSE(check_request_options({.more = more}).ok()) << more;
  const std::string deep = R"({"a": )" + std::string(60000, '[') + std::string(60000, ']') + "}";
  EXPECT_EQ(check_request_options({.more = deep}).error().message,
            "the JSON object to add to requests is nested more than 100 deep");
}

}  // namespace
}  // namespace spate::load
