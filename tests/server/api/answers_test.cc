// Bodies and chunks, made of what an engine could say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"
#include "server/api/chat_answer.h"
#include "server/api/completion_answer.h"
#include "server/api/embedding_answer.h"

namespace spate::testing {
namespace {

using api::AnswerHead;
using api::ChatAnswer;
using api::CompletionAnswer;
using api::CompletionRequest;
using api::Events;
using api::GenerationFields;
using ::testing::ElementsAre;

const AnswerHead kHead{.id = "id-1", .created = 1234, .model = "small"};

// What a stream's answer sends for a delta.
template <typename SomeAnswer>
std::vector<Json> events_of(SomeAnswer& answer, const OutputDelta& delta, size_t prompt = 0) {
  Events events;
  answer.add(prompt, delta, events);
  std::vector<Json> chunks;
  for (const std::string& event : events) chunks.push_back(parsed(event));
  return chunks;
}
template <typename SomeAnswer>
Json body_of(SomeAnswer& answer) {
  Events events;
  answer.end(events);
  EXPECT_TRUE(events.empty());
  return parsed(answer.body());
}

TEST(ChatAnswer, WholeBody_HasTextReasonUsageAndTimings) {
  ChatAnswer answer(small_model(), {}, kHead);
  EXPECT_TRUE(events_of(answer, text_delta("Hel")).empty());
  events_of(answer, text_delta("lo\n"));
  events_of(answer, end_delta(FinishReason::kStop, cost_of(10, 5, 4)));
  EXPECT_EQ(body_of(answer), parsed(R"({
    "id": "id-1", "object": "chat.completion", "created": 1234, "model": "small", "system_fingerprint": null,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello\n", "refusal": null}, "logprobs": null,
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
              "prompt_tokens_details": {"cached_tokens": 4}},
    "timings": {"queue_seconds": 0.25, "prefill_seconds": 0.5, "decode_seconds": 2.0,
                "prefill_tokens_per_second": 12.0, "decode_tokens_per_second": 2.0}})"));
}

TEST(ChatAnswer, SeveralChoices_CountThePromptOnce) {
  ChatAnswer answer(small_model(), {.n = 2}, kHead);
  events_of(answer, text_delta("b", 1));
  events_of(answer, end_delta(FinishReason::kLength, cost_of(10, 3), 1));
  events_of(answer, text_delta("a", 0));
  events_of(answer, end_delta(FinishReason::kStop, cost_of(10, 5), 0));
  const Json body = body_of(answer);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "a");
  EXPECT_EQ(body["choices"][1]["message"]["content"], "b");
  EXPECT_EQ(body["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 10);
  EXPECT_EQ(body["usage"]["completion_tokens"], 8);
}

TEST(ChatAnswer, Stream_BeginsWithTheRoleAndEndsWithTheReason) {
  ChatAnswer answer(small_model(), {.stream = true}, kHead);
  const std::vector<Json> first = events_of(answer, text_delta("Hi"));
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0], parsed(R"({"id": "id-1", "object": "chat.completion.chunk", "created": 1234, "model": "small",
    "system_fingerprint": null, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null},
    "logprobs": null, "finish_reason": null}]})"));
  EXPECT_EQ(first[1]["choices"][0]["delta"], parsed(R"({"content": "Hi"})"));
  EXPECT_TRUE(events_of(answer, OutputDelta{.tokens = {{'!', -1, {}}}}).empty());  // held back
  OutputDelta last = end_delta(FinishReason::kLength);
  last.text = "!";
  const std::vector<Json> end = events_of(answer, last);
  ASSERT_EQ(end.size(), 2u);
  EXPECT_EQ(end[0]["choices"][0]["delta"]["content"], "!");
  EXPECT_TRUE(end[0]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(end[1]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(end[1]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(end[1]["timings"]["queue_seconds"], 0.25);
  Events none;
  answer.end(none);
  EXPECT_TRUE(none.empty());
}

TEST(ChatAnswer, StreamWithUsage_EndsWithAChunkOfNoChoices) {
  ChatAnswer answer(small_model(), {.stream = true, .include_usage = true}, kHead);
  for (const Json& chunk : events_of(answer, text_delta("Hi"))) EXPECT_TRUE(chunk.at("usage").is_null());
  events_of(answer, end_delta(FinishReason::kStop));
  Events events;
  answer.end(events);
  ASSERT_EQ(events.size(), 1u);
  const Json chunk = parsed(events[0]);
  EXPECT_EQ(chunk["choices"], Json::array());
  EXPECT_EQ(chunk["usage"]["total_tokens"], 15);
  EXPECT_EQ(chunk["object"], "chat.completion.chunk");
}

TEST(ChatAnswer, Logprobs_GoWithTheirText) {
  ChatAnswer answer(small_model(), {.stream = true, .n_logprobs = 2}, kHead);
  OutputDelta delta = text_delta("aS");
  delta.text = "a";
  const std::vector<Json> chunks = events_of(answer, delta);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1]["choices"][0]["logprobs"], parsed(R"({"content": [{"token": "a", "logprob": -0.5, "bytes": [97],
    "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "z", "logprob": -2, "bytes": [122]}]}],
    "refusal": null})"));
  OutputDelta last{.tokens = {{'T', -1, {}}}, .finish = Finish{.stop_string = "ST"}};
  const std::vector<Json> end = events_of(answer, last);
  ASSERT_EQ(end.size(), 1u);  // nothing of the stop string
  EXPECT_EQ(end[0]["choices"][0]["finish_reason"], "stop");
}

TEST(ChatAnswer, LogprobsOfOddTokens_AreStillJson) {
  ChatAnswer answer(small_model(), {.n_logprobs = 0}, kHead);
  OutputDelta delta{.tokens = {{0xC3, -INFINITY, {}}, {0xA9, NAN, {}}, {kImStart, -1e9f, {}}}, .text = "é"};
  events_of(answer, delta);
  events_of(answer, end_delta(FinishReason::kLength));
  const Json content = body_of(answer)["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 3u);
  EXPECT_EQ(content[0], parsed(R"({"token": "\\xc3", "logprob": -9999, "bytes": [195], "top_logprobs": []})"));
  EXPECT_EQ(content[1]["logprob"], -9999);
  EXPECT_EQ(content[2], parsed(R"({"token": "<|im_start|>", "logprob": -9999, "bytes": null, "top_logprobs": []})"));
}

CompletionRequest completion(std::vector<std::vector<TokenId>> prompts, GenerationFields generation = {},
                             bool echo = false) {
  return {.prompts = std::move(prompts), .echo = echo, .generation = std::move(generation)};
}

TEST(CompletionAnswer, WholeBody_OrdersChoicesByPrompt) {
  CompletionAnswer answer(small_model(), completion({{'p'}, {'q'}}, {.n = 2}), kHead);
  for (const size_t prompt : {1, 0})
    for (const int choice : {1, 0}) {
      events_of(answer, text_delta(fmt::format("{}.{}", prompt, choice), choice), prompt);
      events_of(answer, end_delta(FinishReason::kStop, cost_of(1, 3), choice), prompt);
    }
  const Json body = body_of(answer);
  EXPECT_EQ(body["object"], "text_completion");
  std::vector<std::string> texts;
  for (const Json& choice : body["choices"]) texts.push_back(choice["text"]);
  EXPECT_THAT(texts, ElementsAre("0.0", "0.1", "1.0", "1.1"));
  EXPECT_EQ(body["choices"][3]["index"], 3);
  EXPECT_EQ(body["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(body["usage"]["completion_tokens"], 12);
}

TEST(CompletionAnswer, Stream_SendsTextThenTheReason) {
  CompletionAnswer answer(small_model(), completion({{'p'}}, {.stream = true, .include_usage = true}), kHead);
  const std::vector<Json> chunks = events_of(answer, text_delta("hi"));
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0]["choices"][0], parsed(R"({"index":0,"text":"hi","logprobs":null,"finish_reason":null})"));
  const std::vector<Json> end = events_of(answer, end_delta(FinishReason::kLength));
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0]["choices"][0], parsed(R"({"index":0,"text":"","logprobs":null,"finish_reason":"length"})"));
  Events events;
  answer.end(events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(parsed(events[0])["usage"]["completion_tokens"], 5);
}

TEST(CompletionAnswer, Echo_PutsThePromptFirst) {
  CompletionAnswer whole(small_model(), completion({{kImStart, 'h', 'i'}}, {}, true), kHead);
  events_of(whole, text_delta(" you"));
  events_of(whole, end_delta(FinishReason::kStop));
  EXPECT_EQ(body_of(whole)["choices"][0]["text"], "<|im_start|>hi you");

  CompletionAnswer stream(small_model(), completion({{'h', 'i'}}, {.stream = true}, true), kHead);
  EXPECT_EQ(events_of(stream, text_delta("!"))[0]["choices"][0]["text"], "hi!");
  EXPECT_EQ(events_of(stream, text_delta("!"))[0]["choices"][0]["text"], "!");
}

TEST(CompletionAnswer, EchoOfAPromptAlone_NeedsNoToken) {
  CompletionAnswer answer(small_model(), completion({{'h', 'i'}}, {.max_tokens = 0}, true), kHead);
  events_of(answer, end_delta(FinishReason::kLength, cost_of(2, 0)));
  const Json choice = body_of(answer)["choices"][0];
  EXPECT_EQ(choice["text"], "hi");
  EXPECT_EQ(choice["finish_reason"], "length");
}

TEST(CompletionAnswer, Logprobs_AreColumnsWithTheDrawnTokenAmongItsAlternatives) {
  CompletionAnswer answer(small_model(), completion({{'p'}}, {.n_logprobs = 1}), kHead);
  OutputDelta delta{.tokens = {{'a', -2, {{'z', -1}}}, {0xC3, -1, {{0xC3, -1}}}, {0xA9, -0.5, {}}}, .text = "aé"};
  events_of(answer, delta);
  events_of(answer, end_delta(FinishReason::kStop));
  EXPECT_EQ(body_of(answer)["choices"][0]["logprobs"], parsed(R"({
    "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9"], "token_logprobs": [-2, -1, -0.5],
    "top_logprobs": [{"z": -1, "a": -2}, {"bytes:\\xc3": -1}, {"bytes:\\xa9": -0.5}], "text_offset": [0, 1, 1]})"));
}

TEST(CompletionAnswer, EchoWithLogprobs_ScoresThePromptFromItsSecondToken) {
  CompletionAnswer answer(small_model(), completion({{'h', kTokenAb, '!'}}, {.n_logprobs = 0}, true), kHead);
  events_of(answer, OutputDelta{.prompt = {{kTokenAb, -3, 'x', {}}}});
  events_of(answer, OutputDelta{.prompt = {{'!', -4, 'x', {}}}});
  events_of(answer, text_delta("y"));
  events_of(answer, end_delta(FinishReason::kStop));
  const Json choice = body_of(answer)["choices"][0];
  EXPECT_EQ(choice["text"], "hab!y");
  EXPECT_EQ(choice["logprobs"]["tokens"], parsed(R"(["h", "ab", "!", "y"])"));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], parsed("[null, -3, -4, -0.5]"));
  EXPECT_EQ(choice["logprobs"]["text_offset"], parsed("[0, 1, 3, 4]"));
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
}

TEST(CompletionAnswer, EchoWithLogprobs_EveryChoiceBeginsWithTheScoredPrompt) {
  CompletionAnswer answer(small_model(), completion({{'h', 'i'}}, {.stream = true, .n = 2, .n_logprobs = 0}, true),
                          kHead);
  EXPECT_TRUE(events_of(answer, text_delta("b", 1)).empty());  // the prompt's scores come with choice 0
  OutputDelta scored = text_delta("a", 0);
  scored.prompt = {{'i', -3, 'x', {}}};
  const std::vector<Json> chunks = events_of(answer, scored);
  ASSERT_EQ(chunks.size(), 2u);
  for (const Json& chunk : chunks) {
    const Json& choice = chunk["choices"][0];
    EXPECT_EQ(choice["text"], choice["index"] == 0 ? "hia" : "hib");
    EXPECT_EQ(choice["logprobs"]["token_logprobs"], parsed("[null, -3, -0.5]"));
  }
}

std::vector<float> floats_of_base64(const std::string& text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    n_bits += 6;
    if (n_bits >= 8) bytes += static_cast<char>(bits >> (n_bits -= 8) & 255);
  }
  std::vector<float> floats(bytes.size() / sizeof(float));
  memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

TEST(EmbeddingAnswer, VectorsAreOfLengthOneInTheOrderOfTheInputs) {
  for (const bool base64 : {false, true}) {
    api::EmbeddingAnswer answer(small_model(), {.inputs = {{1}, {2}}, .base64 = base64});
    Finish finish{.reason = FinishReason::kLength, .cost = cost_of(7, 0)};
    events_of(answer, OutputDelta{.embedding = {0, 0, 2}, .finish = finish}, 1);
    events_of(answer, OutputDelta{.embedding = {3, 0, -4}, .finish = finish}, 0);
    const Json body = body_of(answer);
    EXPECT_EQ(body["object"], "list");
    EXPECT_EQ(body["data"][1]["index"], 1);
    EXPECT_EQ(body["usage"], parsed(R"({"prompt_tokens": 14, "total_tokens": 14})"));
    const auto vector = [&](int i) {
      const Json& embedding = body["data"][i]["embedding"];
      return base64 ? floats_of_base64(embedding) : embedding.get<std::vector<float>>();
    };
    EXPECT_THAT(vector(0), ElementsAre(0.6f, 0.0f, -0.8f));
    EXPECT_THAT(vector(1), ElementsAre(0.0f, 0.0f, 1.0f));
  }
}

TEST(EmbeddingAnswer, Base64_PadsAsRfc4648) {
  EXPECT_EQ(api::base64_of({}), "");
  EXPECT_EQ(api::base64_of(std::vector<float>{1}), "AACAPw==");
  EXPECT_EQ(api::base64_of(std::vector<float>{1, -2}), "AACAPwAAAMA=");
}

TEST(EmbeddingAnswer, VectorOfLengthZero_StaysZero) {
  EXPECT_THAT(api::normalised(std::vector<float>{0, 0}), ElementsAre(0, 0));
}

TEST(Usage, RatesThatNothingTells_AreNull) {
  const Json timings = parsed(api::timings_json({.n_prompt_tokens = 8, .n_cached_tokens = 8, .n_generated_tokens = 1}));
  EXPECT_TRUE(timings["prefill_tokens_per_second"].is_null());
  EXPECT_TRUE(timings["decode_tokens_per_second"].is_null());
}

}  // namespace
}  // namespace spate::testing
