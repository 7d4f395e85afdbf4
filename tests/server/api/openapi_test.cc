// The OpenAPI description against what the endpoints take and answer.
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>

#include "server/api/api_testing.h"
#include "server/api/json_schema.h"

namespace spate::testing {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;

class OpenApi : public ApiFixture {
 protected:
  static const Json& document() {
    static const Json json = parsed(api::openapi_json());
    return json;
  }
  static std::vector<std::string> errors(const std::string& schema, const Json& value) {
    return schema_errors(document(), document()["components"]["schemas"].at(schema), value);
  }
  // The answer to a request that the description allows.
  ExchangePtr post_described(const std::string& path, const Json& body) {
    const Json& operation = document()["paths"].at(path)["post"];
    EXPECT_THAT(schema_errors(document(), operation["requestBody"]["content"]["application/json"]["schema"], body),
                IsEmpty())
        << path << " " << body;
    return post(path, body);
  }
  static void expect_described(const std::string& path, const std::string& method, int status, const std::string& body,
                               const std::string& type = "application/json") {
    Json response = document()["paths"].at(path).at(method)["responses"].at(std::to_string(status));
    if (response.contains("$ref"))
      response = document().at(Json::json_pointer(response["$ref"].get<std::string>().substr(1)));
    EXPECT_THAT(schema_errors(document(), response["content"].at(type)["schema"], parsed(body)), IsEmpty())
        << path << " " << body;
  }
  // Lets request `index` of the engine write something, and end.
  void run(size_t index, int n_choices = 1) {
    for (int choice = 0; choice < n_choices; ++choice) {
      OutputDelta delta = text_delta("é!", choice);
      if (serving.submissions[index].request.prompt_logprobs && choice == 0)
        for (size_t i = 1; i < serving.submissions[index].request.prompt.size(); ++i)
          delta.prompt.push_back({serving.submissions[index].request.prompt[i], -1, 'x', {{'x', -1}}});
      serving.say(index, delta);
      serving.say(index, end_delta(FinishReason::kStop, cost_of(3, 2), choice));
    }
  }

  const Json messages = Json::array({{{"role", "user"}, {"content", "hi"}}});
};

TEST_F(OpenApi, TheServedFile_IsTheOneInTheTree) {
  std::ifstream file(source_path("src/server/api/openapi.json"));
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(ask("GET", "/openapi.json")->body == text.str());  // either is long
}

TEST_F(OpenApi, RoutesAndPaths_AreTheSame) {
  std::set<std::string> described, routed;
  for (const auto& [path, operations] : document()["paths"].items())
    for (const auto& [method, operation] : operations.items()) described.insert(method + " " + path);
  for (const http::Route& route : api::api_routes(serving, {})) {
    if (route.path.starts_with("/v1/responses")) continue;
    std::string path = route.path, method = route.method;
    if (path.ends_with('*')) path.replace(path.size() - 1, 1, "{id}");
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    routed.insert(method + " " + path);
  }
  for (const std::string own : {"get /health", "get /livez", "get /metrics", "get /version"}) routed.insert(own);
  EXPECT_EQ(described, routed);
}

TEST_F(OpenApi, ChatAnswers_AreAsDescribed) {
  const auto whole = post_described("/v1/chat/completions", {{"messages", messages}, {"n", 2}});
  run(0, 2);
  expect_described("/v1/chat/completions", "post", 200, whole->body);
  const auto scored =
      post_described("/v1/chat/completions", {{"messages", messages}, {"logprobs", true}, {"top_logprobs", 2}});
  run(1);
  expect_described("/v1/chat/completions", "post", 200, scored->body);
  EXPECT_EQ(parsed(scored->body)["choices"][0]["logprobs"]["content"].size(), 3u);
}

TEST_F(OpenApi, ChatChunks_AreAsDescribed) {
  const auto stream = post_described(
      "/v1/chat/completions",
      {{"messages", messages}, {"stream", true}, {"stream_options", {{"include_usage", true}}}, {"logprobs", true}});
  run(0);
  ASSERT_EQ(stream->chunks().size(), 4u);
  for (const Json& chunk : stream->chunks())
    expect_described("/v1/chat/completions", "post", 200, chunk.dump(), "text/event-stream");
}

TEST_F(OpenApi, CompletionAnswers_AreAsDescribed) {
  const auto whole = post_described("/v1/completions", {{"prompt", Json::array({"a", Json::array({1, 2})})}});
  run(0);
  run(1);
  expect_described("/v1/completions", "post", 200, whole->body);
  const auto echo = post_described("/v1/completions", {{"prompt", "hi"}, {"echo", true}, {"logprobs", 2}});
  run(2);
  expect_described("/v1/completions", "post", 200, echo->body);
  const auto stream = post_described("/v1/completions", {{"prompt", "hi"}, {"stream", true}, {"logprobs", 1}});
  run(3);
  for (const Json& chunk : stream->chunks())
    expect_described("/v1/completions", "post", 200, chunk.dump(), "text/event-stream");
}

TEST_F(OpenApi, OtherAnswers_AreAsDescribed) {
  for (const char* format : {"float", "base64"}) {
    const auto embedding = post_described("/v1/embeddings", {{"input", "a"}, {"encoding_format", format}});
    serving.say(serving.submissions.size() - 1,
                {.embedding = {1, 2, 3}, .finish = Finish{.reason = FinishReason::kLength}});
    expect_described("/v1/embeddings", "post", 200, embedding->body);
  }
  expect_described("/v1/models", "get", 200, ask("GET", "/v1/models")->body);
  expect_described("/v1/models/{id}", "get", 200, ask("GET", "/v1/models/small")->body);
  for (const bool pieces : {false, true})
    expect_described("/tokenize", "post", 200,
                     post_described("/tokenize", {{"content", "aé"}, {"with_pieces", pieces}})->body);
  expect_described("/detokenize", "post", 200, post_described("/detokenize", {{"tokens", Json::array({97})}})->body);
  expect_described("/apply-template", "post", 200, post_described("/apply-template", {{"messages", messages}})->body);
  expect_described("/openapi.json", "get", 200, ask("GET", "/openapi.json")->body);
}

TEST_F(OpenApi, Errors_AreAsDescribed) {
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template"})
    expect_described(path, "post", 400, ask("POST", path, "{")->body);
  serving.refuse_from = 0;
  expect_described("/v1/completions", "post", 429, post("/v1/completions", {{"prompt", "a"}})->body);
  serving.refusal = Error::backend("gone");
  expect_described("/v1/completions", "post", 500, post("/v1/completions", {{"prompt", "a"}})->body);
  serving.unavailable = ApiError::unavailable("loading");
  expect_described("/v1/models", "get", 503, ask("GET", "/v1/models")->body);
}

// Whatever the description forbids of a chat's fields, the server refuses, and the other way round at the same bounds.
TEST_F(OpenApi, BoundsOfFields_AreTheServers) {
  const Json& fields = document()["components"]["schemas"]["ChatRequest"]["properties"];
  int n_checked = 0;
  for (const auto& [name, schema] : fields.items())
    for (const char* bound : {"minimum", "maximum"}) {
      if (!schema.contains(bound) || name == "priority") continue;
      const bool is_minimum = bound == std::string("minimum");
      const auto limit = schema[bound].get<double>();
      Json body = {{"messages", messages}, {"logprobs", true}};
      body[name] = schema["type"][0] == "integer" ? Json(static_cast<int>(limit)) : Json(limit);
      EXPECT_EQ(post_described("/v1/chat/completions", body)->status, 0) << body;
      body[name] = is_minimum ? limit - 1 : limit + 1;
      EXPECT_EQ(post("/v1/chat/completions", body)->status, 400) << body;
      ++n_checked;
    }
  EXPECT_GE(n_checked, 18);
}

TEST(JsonSchema, FindsWhatIsWrong) {
  const Json schema = parsed(R"({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1},
    "b": {"type": "array", "items": {"enum": ["x", null]}, "minItems": 1}}, "required": ["a"],
    "additionalProperties": false})");
  const auto errors = [&](const char* value) { return schema_errors(schema, schema, parsed(value)).size(); };
  EXPECT_EQ(errors(R"({"a": 1, "b": ["x", null]})"), 0u);
  EXPECT_EQ(errors("[]"), 1u);
  EXPECT_EQ(errors("{}"), 1u);
  EXPECT_EQ(errors(R"({"a": 0})"), 1u);
  EXPECT_EQ(errors(R"({"a": 1.5})"), 1u);
  EXPECT_EQ(errors(R"({"a": 1, "b": []})"), 1u);
  EXPECT_EQ(errors(R"({"a": 1, "b": ["y"]})"), 1u);
  EXPECT_EQ(errors(R"({"a": 1, "c": 1})"), 1u);
  EXPECT_EQ(schema_errors(schema, parsed(R"({"unheardOf": 1})"), Json(1)).size(), 1u);
}

}  // namespace
}  // namespace spate::testing
