// The endpoints that need no engine, and what all of them have in common.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"
#include "server/api/text_endpoints.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;

using Endpoints = ApiFixture;

TEST_F(Endpoints, Models_AreTheServedOneByAllItsNames) {
  const Json list = parsed(ask("GET", "/v1/models")->body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0], parsed(R"({"id": "small", "object": "model", "created": 1700000000, "owned_by": "spate",
                                        "root": "small", "max_model_len": 100})"));
  EXPECT_EQ(parsed(ask("GET", "/v1/models/alias/of-small")->body)["id"], "alias/of-small");
  const auto missing = ask("GET", "/v1/models/gpt-4o");
  EXPECT_EQ(missing->status, 404);
  EXPECT_EQ(missing->error()["code"], "model_not_found");
}

TEST_F(Endpoints, Tokenize_GivesIdsOrPieces) {
  EXPECT_EQ(parsed(post("/tokenize", {{"content", "abc<|im_end|>"}})->body),
            parsed(R"({"tokens": [257, 259], "count": 2, "max_model_len": 100})"));
  const Json pieces = parsed(post("/tokenize", {{"content", "aé<|im_end|>"}, {"with_pieces", true}})->body)["tokens"];
  EXPECT_EQ(pieces, parsed(R"([{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]},
                               {"id": 259, "piece": "<|im_end|>"}])"));
  EXPECT_EQ(parsed(post("/tokenize", {{"content", "<|im_end|>"}, {"parse_special", false}})->body)["count"], 10);
  EXPECT_EQ(parsed(post("/tokenize", {{"content", ""}})->body)["count"], 0);
}

TEST_F(Endpoints, TokenizeOfMessages_GivesThePromptsTokens) {
  const Json messages = Json::array({{{"role", "user"}, {"content", "hi"}}});
  EXPECT_EQ(parsed(post("/apply-template", {{"messages", messages}})->body)["prompt"],
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  const Json tokens = parsed(post("/tokenize", {{"messages", messages}})->body)["tokens"];
  EXPECT_EQ(tokens[0], kImStart);
  EXPECT_EQ(parsed(post("/detokenize", {{"tokens", tokens}})->body)["content"],
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(parsed(post("/apply-template", {{"messages", messages}, {"add_generation_prompt", false}})->body)["prompt"],
            "<|im_start|>user\nhi<|im_end|>\n");
}

TEST_F(Endpoints, TextEndpoints_RefuseWhatWouldMakeHugeAnswers) {
  const auto status = [&](const std::string& path, const Json& body) { return post(path, body)->status; };
  EXPECT_EQ(status("/tokenize", {{"content", std::string(api::kMaxTokenizedBytes + 1, 'a')}}), 400);
  const std::vector<int> ids(api::kMaxDetokenized, 'a');
  EXPECT_EQ(status("/detokenize", {{"tokens", ids}}), 200);
  std::vector<int> one_more = ids;
  one_more.push_back('a');
  EXPECT_EQ(status("/detokenize", {{"tokens", one_more}}), 400);
}

TEST_F(Endpoints, TextEndpoints_RefuseBadFields) {
  const auto param = [&](const std::string& path, const Json& body) {
    const auto exchange = post(path, body);
    EXPECT_EQ(exchange->status, 400) << body;
    return exchange->error()["param"];
  };
  EXPECT_EQ(param("/tokenize", Json::object()), "content");
  EXPECT_EQ(param("/tokenize", {{"content", 5}}), "content");
  EXPECT_EQ(param("/tokenize", {{"content", "a"}, {"messages", Json::array()}}), "messages");
  EXPECT_EQ(param("/tokenize", {{"content", "a"}, {"with_pieces", "yes"}}), "with_pieces");
  EXPECT_EQ(param("/detokenize", Json::object()), "tokens");
  EXPECT_EQ(param("/detokenize", {{"tokens", "a"}}), "tokens");
  EXPECT_EQ(param("/detokenize", {{"tokens", Json::array({5, 1e9})}}), "tokens[1]");
  EXPECT_EQ(param("/apply-template", Json::object()), "messages");
}

TEST_F(Endpoints, TextsThatNoTokensCouldBringIntoTheContext_AreRefusedUnread) {
  // The longest token is "<|im_start|>", 12 bytes, and the context is 100 tokens.
  const std::string text(1212, ' ');
  const Json messages = Json::array({{{"role", "user"}, {"content", text}}});
  const std::vector<std::pair<std::string, Json>> requests = {{"/v1/completions", Json{{"prompt", text}}},
                                                              {"/v1/embeddings", Json{{"input", text}}},
                                                              {"/v1/chat/completions", Json{{"messages", messages}}}};
  for (const auto& [path, body] : requests) {
    const auto exchange = post(path, body);
    EXPECT_EQ(exchange->status, 400) << path;
    EXPECT_EQ(exchange->error()["code"], "context_length_exceeded");
    EXPECT_THAT(exchange->error()["message"].get<std::string>(), HasSubstr("has at least 10"));
  }
}

TEST_F(Endpoints, DetokenizedBytesThatAreNoText_AreReplaced) {
  EXPECT_EQ(parsed(post("/detokenize", {{"tokens", Json::array({'a', 0xFF})}})->body)["content"], "a\xEF\xBF\xBD");
  EXPECT_EQ(parsed(post("/detokenize", {{"tokens", Json::array()}})->body)["content"], "");
}

TEST_F(Endpoints, Responses_IsAClear404) {
  for (const char* path : {"/v1/responses", "/v1/responses/resp_1"}) {
    const auto exchange = ask("POST", path, "{}");
    EXPECT_EQ(exchange->status, 404);
    EXPECT_THAT(exchange->error()["message"].get<std::string>(), HasSubstr("/v1/chat/completions"));
  }
}

TEST_F(Endpoints, BadBodies_Are400) {
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template"})
    for (const char* body :
         {"", "{", "[]", "nonsense", "{\"a\":\"\xff\"}", R"({"model":1,"model":2})", R"({"model":1})"}) {
      const auto exchange = ask("POST", path, body);
      EXPECT_EQ(exchange->status, 400) << path << " " << body;
      EXPECT_EQ(exchange->error()["type"], "invalid_request_error");
    }
}

TEST_F(Endpoints, StrictModel_RefusesOtherNames) {
  options.strict_model = true;
  const auto status = [&](const Json& body) { return post("/v1/completions", body)->status; };
  EXPECT_EQ(status({{"prompt", "a"}, {"model", "gpt-4o"}}), 404);
  EXPECT_EQ(status({{"prompt", "a"}}), 400);
  EXPECT_EQ(status({{"prompt", "a"}, {"model", "small"}}), 0);
  EXPECT_EQ(post("/tokenize", {{"content", "a"}, {"model", "gpt-4o"}})->status, 404);
  EXPECT_EQ(post("/tokenize", {{"content", "a"}, {"model", "alias/of-small"}})->status, 200);
}

}  // namespace
}  // namespace spate::testing
