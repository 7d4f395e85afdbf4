#include "server/api/generation_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"

namespace spate::testing {
namespace {

using api::Fields;
using api::GenerationFields;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ApiResult<GenerationFields> read_fields(const Json& body, const api::ServedModelOptions& options = {}) {
  GenerationFields generation;
  Fields fields(body);
  api::read_generation(fields, *small_model(options), 1, generation);
  SPATE_TRY_VOID(fields.result());
  return generation;
}

void expect_field_refused(const Json& body, const std::string& param, const std::string& part) {
  const ApiError error = error_of(read_fields(body));
  EXPECT_EQ(error.status, 400) << body;
  EXPECT_EQ(error.param, param) << body;
  EXPECT_THAT(error.message, HasSubstr(part)) << body;
}

TEST(GenerationFields, Defaults_AreTheServers) {
  const GenerationFields fields =
      value_of(read_fields(Json::object(), {.sampling = {.temperature = 0.7f, .top_k = 40}}));
  EXPECT_EQ(fields.sampling.temperature, 0.7f);
  EXPECT_EQ(fields.sampling.top_k, 40);
  EXPECT_EQ(fields.n, 1);
  EXPECT_FALSE(fields.stream || fields.include_usage || fields.ignore_eos || fields.max_tokens || fields.n_logprobs);
}

TEST(GenerationFields, WithoutASeed_EachRequestDrawsOne) {
  EXPECT_NE(value_of(read_fields(Json::object())).sampling.seed, value_of(read_fields(Json::object())).sampling.seed);
}

TEST(GenerationFields, AllFields_Arrive) {
  const GenerationFields fields = value_of(read_fields({{"stream", true},
                                                        {"stream_options", {{"include_usage", true}}},
                                                        {"n", 3},
                                                        {"max_tokens", 7},
                                                        {"temperature", 0},
                                                        {"top_p", 0.5},
                                                        {"min_p", 0.1},
                                                        {"typical_p", 0.9},
                                                        {"top_k", 12},
                                                        {"presence_penalty", -2},
                                                        {"frequency_penalty", 1.5},
                                                        {"repetition_penalty", 1.1},
                                                        {"seed", -1},
                                                        {"stop", Json::array({"a", "bc"})},
                                                        {"stop_token_ids", Json::array({5})},
                                                        {"logit_bias", {{"65", -100}, {"66", 2.5}}},
                                                        {"ignore_eos", true},
                                                        {"cache_salt", "tenant"},
                                                        {"priority", -3}}));
  EXPECT_TRUE(fields.stream && fields.include_usage && fields.ignore_eos);
  EXPECT_EQ(fields.n, 3);
  EXPECT_EQ(fields.max_tokens, 7);
  EXPECT_EQ(fields.sampling.temperature, 0);
  EXPECT_EQ(fields.sampling.top_p, 0.5f);
  EXPECT_EQ(fields.sampling.min_p, 0.1f);
  EXPECT_EQ(fields.sampling.typical_p, 0.9f);
  EXPECT_EQ(fields.sampling.top_k, 12);
  EXPECT_EQ(fields.sampling.presence_penalty, -2);
  EXPECT_EQ(fields.sampling.frequency_penalty, 1.5f);
  EXPECT_EQ(fields.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(fields.sampling.seed, ~uint64_t{0});
  EXPECT_THAT(fields.stop, ElementsAre("a", "bc"));
  EXPECT_THAT(fields.stop_tokens, ElementsAre(5));
  ASSERT_EQ(fields.logit_bias.size(), 2u);
  EXPECT_EQ(fields.logit_bias[1].token, 66);
  EXPECT_EQ(fields.logit_bias[1].bias, 2.5f);
  EXPECT_EQ(fields.cache_salt, "tenant");
  EXPECT_EQ(fields.priority, -3);
}

TEST(GenerationFields, NullIsAbsent_AndUnknownFieldsAreIgnored) {
  Json body = {{"unheard_of", Json::array({1, 2})}};
  for (const char* name : {"stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "min_p", "typical_p",
                           "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "stop",
                           "stop_token_ids", "logit_bias", "ignore_eos", "cache_salt", "priority"})
    body[name] = nullptr;
  EXPECT_EQ(value_of(read_fields(body)).n, 1);
}

TEST(GenerationFields, WholeNumbers_MayBeWrittenAsFloats) {
  EXPECT_EQ(value_of(read_fields({{"max_tokens", 16.0}, {"seed", 1e3}})).max_tokens, 16);
  EXPECT_EQ(value_of(read_fields({{"seed", 18446744073709551615u}})).sampling.seed, ~uint64_t{0});
  EXPECT_EQ(value_of(read_fields({{"top_k", -1}})).sampling.top_k, 0);
}

TEST(GenerationFields, NumbersOutOfRange_AreRefusedByName) {
  expect_field_refused({{"n", 1'000'000'000}}, "n", "from 1 to 8");
  expect_field_refused({{"n", 1e9}}, "n", "from 1 to 8");
  expect_field_refused({{"n", 0}}, "n", "from 1 to 8");
  expect_field_refused({{"n", 1e300}}, "n", "from 1 to 8");
  expect_field_refused({{"n", 18446744073709551615u}}, "n", "from 1 to 8");
  expect_field_refused({{"max_tokens", -1}}, "max_tokens", "from 1 to 2147483647");
  expect_field_refused({{"max_tokens", 1e18}}, "max_tokens", "from 1 to 2147483647");
  expect_field_refused({{"temperature", 2.1}}, "temperature", "from 0 to 2");
  expect_field_refused({{"temperature", -1e308}}, "temperature", "from 0 to 2");
  expect_field_refused({{"top_p", 1.5}}, "top_p", "from 0 to 1");
  expect_field_refused({{"min_p", -0.1}}, "min_p", "from 0 to 1");
  expect_field_refused({{"typical_p", 2}}, "typical_p", "from 0 to 1");
  expect_field_refused({{"top_k", -2}}, "top_k", "from -1 to 2147483647");
  expect_field_refused({{"presence_penalty", 3}}, "presence_penalty", "from -2 to 2");
  expect_field_refused({{"frequency_penalty", -3}}, "frequency_penalty", "from -2 to 2");
  expect_field_refused({{"repetition_penalty", 0}}, "repetition_penalty", "from 0.01 to 10");
  expect_field_refused({{"seed", 1e30}}, "seed", "64 bits");
  expect_field_refused({{"seed", 1.5}}, "seed", "64 bits");
  expect_field_refused({{"priority", 101}}, "priority", "from -100 to 100");
}

TEST(GenerationFields, OtherTypes_AreRefusedByName) {
  expect_field_refused({{"n", "2"}}, "n", "a whole number, not a string");
  expect_field_refused({{"n", 1.5}}, "n", "a whole number");
  expect_field_refused({{"temperature", Json::array({1})}}, "temperature", "a number, not a list");
  expect_field_refused({{"stream", 1}}, "stream", "true or false, not a number");
  expect_field_refused({{"cache_salt", 1}}, "cache_salt", "a string");
  expect_field_refused({{"stop", 5}}, "stop", "string");
  expect_field_refused({{"stop", Json::array({"a", nullptr})}}, "stop", "string");
  expect_field_refused({{"logit_bias", Json::array({1, 2})}}, "logit_bias", "object");
  expect_field_refused({{"stop_token_ids", "5"}}, "stop_token_ids", "list");
}

TEST(GenerationFields, StopStrings_AreBoundedInNumberAndLength) {
  expect_field_refused({{"stop", std::vector<std::string>(100'000, "x")}}, "stop", "100000 strings; it may have 64");
  expect_field_refused({{"stop", std::string(1025, 'x')}}, "stop", "1025 bytes");
  expect_field_refused({{"stop", ""}}, "stop", "empty");
  EXPECT_THAT(value_of(read_fields({{"stop", "one"}})).stop, ElementsAre("one"));
  EXPECT_TRUE(value_of(read_fields({{"stop", Json::array()}})).stop.empty());
}

TEST(GenerationFields, IdsOutsideTheVocabulary_AreRefused) {
  expect_field_refused({{"logit_bias", {{"263", 1}}}}, "logit_bias", "'263'");
  expect_field_refused({{"logit_bias", {{"-1", 1}}}}, "logit_bias", "'-1'");
  expect_field_refused({{"logit_bias", {{"a", 1}}}}, "logit_bias", "'a'");
  expect_field_refused({{"logit_bias", {{"", 1}}}}, "logit_bias", "''");
  expect_field_refused({{"logit_bias", {{"99999999999999999999", 1}}}}, "logit_bias", "0..262");
  expect_field_refused({{"logit_bias", {{"5", 101}}}}, "logit_bias", "token 5");
  expect_field_refused({{"logit_bias", {{"5", "1"}}}}, "logit_bias", "token 5");
  expect_field_refused({{"logit_bias", {{"5", 1}, {"05", 2}}}}, "logit_bias", "token 5 twice");
  expect_field_refused({{"stop_token_ids", Json::array({263})}}, "stop_token_ids", "'263'");
  expect_field_refused({{"stop_token_ids", Json::array({"x"})}}, "stop_token_ids", "0..262");
}

TEST(GenerationFields, LogitBiasOverTheExecutorsBound_IsRefused) {
  Json map = Json::object();
  for (int i = 0; i < 1025; ++i) map[std::to_string(i)] = 0;
  expect_field_refused({{"logit_bias", map}}, "logit_bias", "1025 tokens; it may name 1024");
}

TEST(GenerationFields, StreamOptionsWithoutStream_AreRefused) {
  expect_field_refused({{"stream_options", {{"include_usage", true}}}}, "stream_options", "stream is not true");
  expect_field_refused({{"stream", true}, {"stream_options", {{"include_usage", 1}}}}, "stream_options.include_usage",
                       "true or false");
}

TEST(CheckModel, AnyNameDoes_UnlessStrict) {
  const auto model = small_model();
  EXPECT_TRUE(api::check_model({{"model", "gpt-4o"}}, *model, false).ok());
  EXPECT_TRUE(api::check_model(Json::object(), *model, false).ok());
  EXPECT_TRUE(api::check_model({{"model", "alias/of-small"}}, *model, true).ok());
  EXPECT_EQ(error_of(api::check_model({{"model", 7}}, *model, false)).status, 400);
  EXPECT_EQ(error_of(api::check_model(Json::object(), *model, true)).param, "model");
  const ApiError error = error_of(api::check_model({{"model", "gpt-4o"}}, *model, true));
  EXPECT_EQ(error.status, 404);
  EXPECT_EQ(error.code, "model_not_found");
}

TEST(CheckContext, WhatDoesNotFit_IsRefusedWithTheCounts) {
  const auto model = small_model();
  EXPECT_TRUE(api::check_context(*model, 99, std::nullopt, "messages").ok());
  EXPECT_TRUE(api::check_context(*model, 90, 10, "messages").ok());
  EXPECT_TRUE(api::check_context(*model, 100, 0, "input").ok());
  const ApiError error = error_of(api::check_context(*model, 90, 11, "messages"));
  EXPECT_EQ(error.code, "context_length_exceeded");
  EXPECT_EQ(error.param, "messages");
  EXPECT_THAT(error.message, HasSubstr("This model's maximum context length is 100 tokens"));
  EXPECT_THAT(error.message, HasSubstr("needs 101: 90 in the messages and 11 for the completion"));
  EXPECT_THAT(error_of(api::check_context(*model, 100, std::nullopt, "messages")).message, HasSubstr("at least 1"));
  EXPECT_THAT(error_of(api::check_context(*model, 101, 0, "input")).message, HasSubstr("101 in the input."));
  EXPECT_THAT(error_of(api::check_context(*model, 90, 2147483647, "prompt")).message, HasSubstr("2147483737"));
}

}  // namespace
}  // namespace spate::testing
