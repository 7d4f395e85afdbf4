#include "server/api/completion_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"
#include "server/api/embedding_request.h"

namespace spate::testing {
namespace {

using api::CompletionRequest;
using api::EmbeddingRequest;
using api::parse_completion_request;
using api::parse_embedding_request;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Ids = std::vector<TokenId>;

CompletionRequest parse_completion(const Json& body) {
  return value_of(parse_completion_request(body, *small_model()));
}
// A body with a prompt and one more field.
Json completion_with(const std::string& name, const Json& value) {
  Json body = {{"prompt", "hi"}};
  body[name] = value;
  return body;
}
void expect_completion_refused(const Json& body, const std::string& param, const std::string& part) {
  const ApiError error = error_of(parse_completion_request(body, *small_model()));
  EXPECT_EQ(error.status, 400) << body;
  EXPECT_EQ(error.param, param) << body;
  EXPECT_THAT(error.message, HasSubstr(part)) << body;
}

TEST(CompletionRequest, Prompts_MayBeTextIdsOrListsOfEither) {
  EXPECT_THAT(parse_completion({{"prompt", "hi"}}).prompts, ElementsAre(Ids{'h', 'i'}));
  EXPECT_THAT(parse_completion({{"prompt", Json::array({"hi", "abc"})}}).prompts,
              ElementsAre(Ids{'h', 'i'}, Ids{kTokenAbc}));
  EXPECT_THAT(parse_completion({{"prompt", Json::array({5, 262})}}).prompts, ElementsAre(Ids{5, 262}));
  EXPECT_THAT(parse_completion({{"prompt", Json::array({Json::array({5}), Json::array({6, 7})})}}).prompts,
              ElementsAre(Ids{5}, Ids{6, 7}));
  EXPECT_THAT(parse_completion({{"prompt", Json::array({"a", Json::array({6, 7})})}}).prompts,
              ElementsAre(Ids{'a'}, Ids{6, 7}));
  EXPECT_THAT(parse_completion({{"prompt", "<|im_end|>"}}).prompts, ElementsAre(Ids{kImEnd}));
}

TEST(CompletionRequest, OtherPrompts_AreRefusedWithTheirPath) {
  expect_completion_refused(Json::object(), "prompt", "missing");
  expect_completion_refused({{"prompt", nullptr}}, "prompt", "missing");
  expect_completion_refused({{"prompt", 5}}, "prompt", "a string, a list of token ids");
  expect_completion_refused({{"prompt", ""}}, "prompt", "empty");
  expect_completion_refused({{"prompt", Json::array()}}, "prompt", "empty list");
  expect_completion_refused({{"prompt", Json::array({"a", ""})}}, "prompt[1]", "empty");
  expect_completion_refused({{"prompt", Json::array({Json::array()})}}, "prompt[0]", "empty list");
  expect_completion_refused({{"prompt", Json::array({1, 263})}}, "prompt[1]",
                            "263, which is not in the vocabulary (0..262)");
  expect_completion_refused({{"prompt", Json::array({1, -1})}}, "prompt[1]", "-1");
  expect_completion_refused({{"prompt", Json::array({1, 1.5})}}, "prompt[1]", "1.5");
  expect_completion_refused({{"prompt", Json::array({1, "a"})}}, "prompt[1]", "no token id");
  expect_completion_refused({{"prompt", Json::array({Json::array({1}), Json::array({Json::array({1})})})}},
                            "prompt[1][0]", "no token id");
  expect_completion_refused({{"prompt", Json(std::vector<std::string>(129, "a"))}}, "prompt", "129");
}

TEST(CompletionRequest, WithoutMaxTokens_SixteenOrTheRoom) {
  const auto model = small_model();
  const CompletionRequest request = parse_completion({{"prompt", "hi"}});
  EXPECT_EQ(api::max_tokens_of(request, 2, *model), 16);
  EXPECT_EQ(api::max_tokens_of(request, 95, *model), 5);
  EXPECT_EQ(api::max_tokens_of(parse_completion(completion_with("max_tokens", 40)), 2, *model), 40);
  EXPECT_EQ(api::max_tokens_of(parse_completion(completion_with("max_tokens", 0)), 2, *model), 0);
}

TEST(CompletionRequest, PromptThatLeavesNoRoom_IsRefusedWithTheCounts) {
  const Json prompt(std::vector<int>(100, 7));
  EXPECT_EQ(error_of(parse_completion_request({{"prompt", prompt}}, *small_model())).code, "context_length_exceeded");
  EXPECT_TRUE(parse_completion_request({{"prompt", prompt}, {"max_tokens", 0}}, *small_model()).ok());
  expect_completion_refused({{"prompt", "hi"}, {"max_tokens", 99}}, "prompt",
                            "2 in the prompt and 99 for the completion");
}

TEST(CompletionRequest, LogprobsAreACount) {
  EXPECT_FALSE(parse_completion(completion_with("logprobs", nullptr)).generation.n_logprobs);
  EXPECT_EQ(parse_completion(completion_with("logprobs", 0)).generation.n_logprobs, 0);
  EXPECT_EQ(parse_completion(completion_with("logprobs", 5)).generation.n_logprobs, 5);
  expect_completion_refused(completion_with("logprobs", 21), "logprobs", "from 0 to 20");
  expect_completion_refused(completion_with("logprobs", true), "logprobs", "a whole number, not a boolean");
}

TEST(CompletionRequest, ScoresOfPrompts_AreBoundedInAll) {
  const auto request = [](int n) {
    return Json{{"prompt", std::vector<std::vector<int>>(api::kMaxPrompts, std::vector<int>(99, 'a'))},
                {"echo", true},
                {"logprobs", 20},
                {"n", n}};
  };
  EXPECT_TRUE(parse_completion_request(request(1), *small_model()).ok());
  const ApiError error = error_of(parse_completion_request(request(8), *small_model()));
  EXPECT_EQ(error.param, "logprobs");
  EXPECT_THAT(error.message, HasSubstr("makes 2128896 log-probabilities"));
}

TEST(CompletionRequest, WhatIsNotServed_IsRefused) {
  expect_completion_refused(completion_with("suffix", "end"), "suffix", "continues");
  expect_completion_refused(completion_with("best_of", 3), "best_of", "best_of is 3 and n is 1");
  EXPECT_TRUE(parse_completion_request({{"prompt", "a"}, {"suffix", ""}, {"best_of", 1}}, *small_model()).ok());
  EXPECT_TRUE(parse_completion(completion_with("echo", true)).echo);
}

EmbeddingRequest parse_embedding(const Json& body, const api::ServedModelOptions& options = {}) {
  return value_of(parse_embedding_request(body, *small_model(options)));
}

TEST(EmbeddingRequest, InputsFormatAndPooling_AreRead) {
  const EmbeddingRequest plain = parse_embedding({{"input", "abc"}});
  EXPECT_THAT(plain.inputs, ElementsAre(Ids{kTokenAbc}));
  EXPECT_EQ(plain.pooling, Pooling::kMean);
  EXPECT_FALSE(plain.base64);
  const EmbeddingRequest request = parse_embedding({{"input", Json::array({"a", "b"})},
                                                    {"encoding_format", "base64"},
                                                    {"pooling", "last"},
                                                    {"dimensions", 3},
                                                    {"cache_salt", "s"},
                                                    {"priority", -5}});
  EXPECT_EQ(request.inputs.size(), 2u);
  EXPECT_EQ(request.pooling, Pooling::kLast);
  EXPECT_TRUE(request.base64);
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_EQ(request.priority, -5);
  EXPECT_EQ(parse_embedding({{"input", "abc"}}, {.pooling = Pooling::kLast}).pooling, Pooling::kLast);
}

TEST(EmbeddingRequest, BadFields_AreRefused) {
  const auto param = [](const Json& body) { return error_of(parse_embedding_request(body, *small_model())).param; };
  EXPECT_EQ(param(Json::object()), "input");
  EXPECT_EQ(param({{"input", ""}}), "input");
  EXPECT_EQ(param({{"input", Json(std::vector<std::string>(2049, "a"))}}), "input");
  EXPECT_EQ(param({{"input", Json(std::vector<int>(101, 7))}}), "input");
  EXPECT_EQ(param({{"input", "a"}, {"encoding_format", "int8"}}), "encoding_format");
  EXPECT_EQ(param({{"input", "a"}, {"dimensions", 2}}), "dimensions");
  EXPECT_EQ(param({{"input", "a"}, {"pooling", "cls"}}), "pooling");
  EXPECT_TRUE(parse_embedding_request({{"input", Json(std::vector<int>(100, 7))}}, *small_model()).ok());
}

}  // namespace
}  // namespace spate::testing
