// The OpenAPI description against what a server really answers, over a socket and from a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/serving_process.h"
#include "server/api/json_schema.h"
#include "server/http/http_client.h"

namespace spate::testing {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::IsEmpty;

class ApiDescription : public ::testing::Test {
 protected:
  Response get(const std::string& path) {
    HttpClient client(server_.port);
    client.send(request_text(path));
    return client.response();
  }
  Response post(const std::string& path, const Json& body) {
    HttpClient client(server_.port);
    client.send(request_text(path, body.dump()));
    return client.response();
  }
  // The schema of an answer, references resolved.
  const Json& schema(const std::string& path, const std::string& method, int status, const std::string& type) const {
    const Json* response = &document_["paths"].at(path).at(method)["responses"].at(std::to_string(status));
    if (response->contains("$ref"))
      response = &document_.at(Json::json_pointer(response->at("$ref").get<std::string>().substr(1)));
    return response->at("content").at(type).at("schema");
  }
  void expect_described(const std::string& path, const std::string& method, const Response& response, int status) {
    EXPECT_EQ(response.status, status) << path << " " << response.body;
    const std::string type = response.header("content-type");
    const Json body = type == "application/json" ? Json::parse(response.body) : Json(response.body);
    EXPECT_THAT(schema_errors(document_, schema(path, method, status, type.substr(0, type.find(';'))), body), IsEmpty())
        << path;
  }
  void expect_post(const std::string& path, const Json& body, int status = 200) {
    const Json& request =
        document_["paths"].at(path).at("post")["requestBody"]["content"]["application/json"]["schema"];
    EXPECT_EQ(schema_errors(document_, request, body).empty(), status == 200) << body;
    expect_described(path, "post", post(path, body), status);
  }
  // The chunks of a stream that ends as it should; how many there were.
  size_t expect_stream(const std::string& path, const Json& body) {
    const Response response = post(path, body);
    EXPECT_EQ(response.status, 200);
    std::vector<std::string> events;
    for (size_t at = response.body.find("data: "); at != std::string::npos; at = response.body.find("data: ", at)) {
      at += 6;
      events.push_back(response.body.substr(at, response.body.find('\n', at) - at));
    }
    if (events.empty() || events.back() != "[DONE]") {
      ADD_FAILURE() << response.body;
      return 0;
    }
    events.pop_back();
    for (const std::string& event : events)
      EXPECT_THAT(schema_errors(document_, schema(path, "post", 200, "text/event-stream"), Json::parse(event)),
                  IsEmpty());
    return events.size();
  }

  const Json messages_ = Json::array({{{"role", "user"}, {"content", "Tell me of the river."}}});

 private:
  ServingProcess server_;
  const Json document_ = Json::parse(get("/openapi.json").body);
};

TEST_F(ApiDescription, Generation_AnswersAsDescribed) {
  expect_post("/v1/chat/completions", {{"messages", messages_}, {"max_tokens", 4}, {"n", 2}});
  expect_post("/v1/chat/completions",
              {{"messages", messages_}, {"max_tokens", 4}, {"logprobs", true}, {"top_logprobs", 3}});
  EXPECT_GT(expect_stream("/v1/chat/completions", {{"messages", messages_},
                                                   {"max_tokens", 8},
                                                   {"stream", true},
                                                   {"logprobs", true},
                                                   {"stream_options", {{"include_usage", true}}}}),
            4u);
  expect_post("/v1/completions", {{"prompt", Json::array({"The river", "The sea"})}, {"max_tokens", 4}});
  expect_post("/v1/completions",
              {{"prompt", "The river"}, {"max_tokens", 2}, {"echo", true}, {"logprobs", 2}, {"n", 2}});
  EXPECT_GT(
      expect_stream("/v1/completions", {{"prompt", "The river"}, {"max_tokens", 8}, {"stream", true}, {"logprobs", 1}}),
      2u);
}

TEST_F(ApiDescription, OtherEndpoints_AnswerAsDescribed) {
  for (const char* format : {"float", "base64"})
    expect_post("/v1/embeddings", {{"input", Json::array({"The river", "The sea"})}, {"encoding_format", format}});
  expect_post("/tokenize", {{"content", "The river"}, {"with_pieces", true}});
  expect_post("/tokenize", {{"messages", messages_}});
  expect_post("/detokenize", {{"tokens", Json::array({1, 2, 3})}});
  expect_post("/apply-template", {{"messages", messages_}});
  for (const char* path : {"/v1/models", "/health", "/livez", "/version", "/metrics", "/openapi.json"})
    expect_described(path, "get", get(path), 200);
  const std::string id = Json::parse(get("/v1/models").body)["data"][0]["id"];
  expect_described("/v1/models/{id}", "get", get("/v1/models/" + id), 200);
}

TEST_F(ApiDescription, Errors_AreAsDescribed) {
  expect_post("/v1/chat/completions", {{"messages", messages_}, {"temperature", 3}}, 400);
  expect_post("/v1/completions", {{"prompt", Json::array()}}, 400);
  expect_post("/v1/embeddings", Json::object(), 400);
  expect_described("/v1/models/{id}", "get", get("/v1/models/nobody"), 404);
}

}  // namespace
}  // namespace spate::testing
