#include "server/api/chat_answer.h"

#include <fmt/core.h>

#include "server/api/json_text.h"

namespace spate::api {

ChatAnswer::ChatAnswer(std::shared_ptr<const ServedModel> model, const GenerationFields& fields)
    : ChatAnswer(model, fields, AnswerHead::make("chatcmpl-", model->name())) {}

ChatAnswer::ChatAnswer(std::shared_ptr<const ServedModel> model, const GenerationFields& fields, AnswerHead head)
    : model_(std::move(model)),
      head_(std::move(head)),
      stream_(fields.stream),
      include_usage_(fields.include_usage),
      wants_logprobs_(fields.n_logprobs.has_value()),
      chunk_opening_(head_.opening("chat.completion.chunk")),
      chunk_ending_(include_usage_ ? R"(],"usage":null)" : "]"),
      choices_(static_cast<size_t>(fields.n)) {
  if (!wants_logprobs_) return;
  for (Choice& choice : choices_) choice.aligner.emplace_back(model_->tokenizer(), 0);
}

std::string ChatAnswer::chunk(int choice, std::string_view delta, std::string_view logprobs, std::string_view finish,
                              std::string_view more) const {
  return fmt::format(R"({}{{"index":{},"delta":{},"logprobs":{},"finish_reason":{}}}{}{}}})", chunk_opening_, choice,
                     delta, logprobs, finish, chunk_ending_, more);
}

void ChatAnswer::add(size_t, const OutputDelta& delta, Events& events) {
  Choice& choice = choices_[static_cast<size_t>(delta.choice)];
  if (wants_logprobs_) choice.logprobs.add(choice.aligner.front().add(delta), *model_);
  if (delta.finish) {
    choice.reason = delta.finish->reason;
    usage_.add(delta.choice, delta.finish->cost);
  }
  if (stream_) {
    stream(choice, delta, events);
  } else {
    choice.content += delta.text;
  }
}

void ChatAnswer::stream(Choice& choice, const OutputDelta& delta, Events& events) {
  if (!choice.begun) {
    choice.begun = true;
    events.push_back(chunk(delta.choice, R"({"role":"assistant","content":"","refusal":null})", "null", "null"));
  }
  if (!delta.text.empty() || !choice.logprobs.empty())
    events.push_back(chunk(delta.choice, R"({"content":)" + json_text(delta.text) + "}",
                           wants_logprobs_ ? choice.logprobs.take_json() : "null", "null"));
  if (delta.finish)
    events.push_back(chunk(delta.choice, "{}", "null", finish_json(choice.reason),
                           R"(,"timings":)" + timings_json(delta.finish->cost)));
}

void ChatAnswer::end(Events& events) {
  if (stream_ && include_usage_) events.push_back(chunk_opening_ + R"(],"usage":)" + usage_.json() + "}");
}

std::string ChatAnswer::body() {
  std::string out = head_.opening("chat.completion");
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    if (i > 0) out += ',';
    out += fmt::format(R"({{"index":{},"message":{{"role":"assistant","content":)", i);
    append_json_text(out, choice.content);
    out += fmt::format(R"(,"refusal":null}},"logprobs":{},"finish_reason":{}}})",
                       wants_logprobs_ ? choice.logprobs.take_json() : "null", finish_json(choice.reason));
  }
  out += fmt::format(R"(],"usage":{},"timings":{}}})", usage_.json(), usage_.timings_json());
  return out;
}

}  // namespace spate::api
