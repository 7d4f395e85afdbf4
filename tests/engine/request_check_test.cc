#include "engine/request_check.h"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>

namespace spate {
namespace {

constexpr RequestLimits kLimits{.vocab_size = 50, .context_tokens = 20, .has_text = true};

Request good_request() {
  return {.prompt = {1, 2, 3}};
}

TEST(RequestCheck, ExtremesOfEveryRange_AreAccepted) {
  Request request = good_request();
  request.prompt.assign(19, 49);
  request.sampling = {.repetition_penalty = 1e-3f,
                      .presence_penalty = -2,
                      .frequency_penalty = 2,
                      .temperature = 1e30f,
                      .top_k = 1 << 30,
                      .typical_p = 0,
                      .top_p = 0,
                      .min_p = 1,
                      .seed = ~uint64_t{0}};
  request.logit_bias = {{0, -INFINITY}, {49, INFINITY}};
  request.stop_strings = {"\n", "€"};
  request.stop_tokens = {0, 49};
  request.n_logprobs = kMaxLogprobs;
  request.max_tokens = 1 << 30;
  const Result<void> result = check_request(request, kLimits);
  EXPECT_TRUE(result.ok()) << result.error().message;
  EXPECT_TRUE(check_request(good_request(), kLimits).ok());
}

struct BadRequest {
  const char* message;  // a part of it
  ErrorCode code;
  std::function<void(Request&)> spoil;
};

TEST(RequestCheck, EachFieldOutOfRange_IsRefusedByName) {
  const ErrorCode usage = ErrorCode::kUsage;
  const BadRequest cases[] = {
      {"the prompt has no tokens", usage, [](Request& r) { r.prompt.clear(); }},
      {"prompt token 50 is not in the vocabulary (0..49)", usage, [](Request& r) { r.prompt[1] = 50; }},
      {"prompt token -1", usage, [](Request& r) { r.prompt[2] = -1; }},
      {"the prompt has 20 tokens", ErrorCode::kOutOfResources, [](Request& r) { r.prompt.assign(20, 1); }},
      {"max_tokens is -3", usage, [](Request& r) { r.max_tokens = -3; }},
      {"temperature is -0.5", usage, [](Request& r) { r.sampling.temperature = -0.5f; }},
      {"temperature is inf", usage, [](Request& r) { r.sampling.temperature = INFINITY; }},
      {"temperature is nan", usage, [](Request& r) { r.sampling.temperature = NAN; }},
      {"repetition_penalty is 0", usage, [](Request& r) { r.sampling.repetition_penalty = 0; }},
      {"repetition_penalty is inf", usage, [](Request& r) { r.sampling.repetition_penalty = INFINITY; }},
      {"presence_penalty is nan", usage, [](Request& r) { r.sampling.presence_penalty = NAN; }},
      {"frequency_penalty is inf", usage, [](Request& r) { r.sampling.frequency_penalty = INFINITY; }},
      {"top_k is -1", usage, [](Request& r) { r.sampling.top_k = -1; }},
      {"typical_p is 1.5; it must be from 0 to 1", usage, [](Request& r) { r.sampling.typical_p = 1.5f; }},
      {"top_p is -0.1", usage, [](Request& r) { r.sampling.top_p = -0.1f; }},
      {"top_p is nan", usage, [](Request& r) { r.sampling.top_p = NAN; }},
      {"min_p is 2", usage, [](Request& r) { r.sampling.min_p = 2; }},
      {"logit_bias: token 99", usage,
       [](Request& r) {
         r.logit_bias = {{99, 1}};
       }},
      {"logit_bias names 1025 tokens", usage, [](Request& r) { r.logit_bias.resize(1025); }},
      {"logit_bias of token 7 is not a number", usage,
       [](Request& r) {
         r.logit_bias = {{7, NAN}};
       }},
      {"logprobs is 33", usage, [](Request& r) { r.n_logprobs = 33; }},
      {"logprobs is -1", usage, [](Request& r) { r.n_logprobs = -1; }},
      {"0 choices are asked for; it must be from 1 to 8", usage, [](Request& r) { r.n_choices = 0; }},
      {"9 choices", usage, [](Request& r) { r.n_choices = 9; }},
      {"priority is 101; it must be from -100 to 100", usage, [](Request& r) { r.priority = 101; }},
      {"cache_salt has 1025 bytes", usage, [](Request& r) { r.cache_salt.assign(1025, 'x'); }},
      {"an embedding comes alone", usage, [](Request& r) { r.pooling = Pooling::kMean; }},
      {"an embedding comes alone", usage,
       [](Request& r) {
         r.pooling = Pooling::kLast;
         r.max_tokens = 0;
         r.n_choices = 2;
       }},
      {"stop token 50", usage, [](Request& r) { r.stop_tokens = {50}; }},
      {"stop string 2 is empty", usage,
       [](Request& r) {
         r.stop_strings = {"ok", ""};
       }},
      {"stop string 1 is not valid UTF-8", usage, [](Request& r) { r.stop_strings = {"a\xE2\x82"}; }},
  };
  for (const BadRequest& bad : cases) {
    Request request = good_request();
    bad.spoil(request);
    const Result<void> result = check_request(request, kLimits);
    ASSERT_FALSE(result.ok()) << bad.message;
    EXPECT_EQ(result.error().code, bad.code) << bad.message;
    EXPECT_NE(result.error().message.find(bad.message), std::string::npos) << result.error().message;
    EXPECT_EQ(result.error().message.find('\n'), std::string::npos);
  }
}

TEST(RequestCheck, StopStringsWithoutATokenizer_AreRefused) {
  Request request = good_request();
  request.stop_strings = {"x"};
  RequestLimits limits = kLimits;
  limits.has_text = false;
  EXPECT_FALSE(check_request(request, limits).ok());
}

}  // namespace
}  // namespace spate
