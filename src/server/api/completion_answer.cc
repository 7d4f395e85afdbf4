#include "server/api/completion_answer.h"

#include <fmt/core.h>
#include <utility>

#include "server/api/json_text.h"

namespace spate::api {

CompletionAnswer::CompletionAnswer(std::shared_ptr<const ServedModel> model, const CompletionRequest& request)
    : CompletionAnswer(model, request, AnswerHead::make("cmpl-", model->name())) {}

CompletionAnswer::CompletionAnswer(std::shared_ptr<const ServedModel> model, const CompletionRequest& request,
                                   AnswerHead head)
    : model_(std::move(model)),
      head_(std::move(head)),
      stream_(request.generation.stream),
      include_usage_(request.generation.include_usage),
      wants_logprobs_(request.generation.n_logprobs.has_value()),
      chunk_ending_(include_usage_ ? R"(],"usage":null)" : "]"),
      opening_(head_.opening("text_completion")),
      n_(static_cast<size_t>(request.generation.n)) {
  for (const std::vector<TokenId>& ids : request.prompts) {
    prompts_.push_back(make_prompt(ids, request.echo));
    for (size_t i = 0; i < n_; ++i) {
      Choice& choice = choices_.emplace_back();
      if (wants_logprobs_) choice.aligner.emplace_back(model_->tokenizer(), prompts_.back().n_chars);
    }
  }
}

// The text that the tokens stand for. A BOS in front is not the client's, if the vocabulary adds one.
CompletionAnswer::Prompt CompletionAnswer::make_prompt(const std::vector<TokenId>& ids, bool echo) const {
  Prompt prompt{.scored = !echo || !wants_logprobs_ || ids.size() == 1};
  if (!echo) return prompt;
  const Vocab& vocab = model_->tokenizer().vocab();
  StreamDecoder decoder(model_->tokenizer(), true, true);
  for (size_t i = 0; i < ids.size(); ++i) {
    prompt.begin_chars.push_back(prompt.n_chars);
    if (i == 0 && vocab.add_bos && ids[i] == vocab.bos) continue;
    const std::string text = decoder.push(ids[i]);
    prompt.n_chars += count_codepoints(text);
    prompt.echo += text;
  }
  const std::string rest = decoder.finish();
  prompt.n_chars += count_codepoints(rest);
  prompt.echo += rest;
  if (wants_logprobs_) prompt.logprobs.add_first(ids.front(), prompt.begin_chars.front(), *model_);
  return prompt;
}

// True where the delta has to wait: the prompt's scores come with its choice 0 alone, and begin every choice's answer.
bool CompletionAnswer::wait_for_scores(Prompt& prompt, const OutputDelta& delta) {
  if (prompt.scored) return false;
  if (delta.choice != 0) {
    prompt.early.push_back(delta);
    return true;
  }
  for (const PromptToken& token : delta.prompt)
    prompt.logprobs.add(token, prompt.begin_chars[++prompt.n_scored], *model_);
  prompt.scored = prompt.n_scored + 1 == prompt.begin_chars.size() || delta.finish;
  return !prompt.scored;
}

void CompletionAnswer::add(size_t index, const OutputDelta& delta, Events& events) {
  Prompt& prompt = prompts_[index];
  if (wait_for_scores(prompt, delta)) return;
  take(index, delta, events);
  for (const OutputDelta& early : std::exchange(prompt.early, {})) take(index, early, events);
}

// What the echo adds in front of a choice's answer.
void CompletionAnswer::begin(const Prompt& prompt, Choice& choice) {
  choice.begun = true;
  choice.text = prompt.echo;
  choice.logprobs = prompt.logprobs;
}

void CompletionAnswer::take(size_t index, const OutputDelta& delta, Events& events) {
  const size_t place = index * n_ + static_cast<size_t>(delta.choice);
  Choice& choice = choices_[place];
  if (!choice.begun) begin(prompts_[index], choice);
  choice.text += delta.text;
  if (wants_logprobs_) choice.logprobs.add(choice.aligner.front().add(delta), *model_);
  if (delta.finish) {
    choice.reason = delta.finish->reason;
    usage_.add(delta.choice, delta.finish->cost);
  }
  if (!stream_) return;
  if (!choice.text.empty() || !choice.logprobs.empty())
    events.push_back(
        chunk(place, std::exchange(choice.text, {}), wants_logprobs_ ? choice.logprobs.take_json() : "null", "null"));
  if (delta.finish)
    events.push_back(
        chunk(place, "", "null", finish_json(choice.reason), R"(,"timings":)" + timings_json(delta.finish->cost)));
}

std::string CompletionAnswer::chunk(size_t index, std::string_view text, std::string_view logprobs,
                                    std::string_view finish, std::string_view more) const {
  return fmt::format(R"({}{{"index":{},"text":{},"logprobs":{},"finish_reason":{}}}{}{}}})", opening_, index,
                     json_text(text), logprobs, finish, chunk_ending_, more);
}

void CompletionAnswer::end(Events& events) {
  if (stream_ && include_usage_) events.push_back(opening_ + R"(],"usage":)" + usage_.json() + "}");
}

std::string CompletionAnswer::body() {
  std::string out = opening_;
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    if (i > 0) out += ',';
    out += fmt::format(R"({{"index":{},"text":)", i);
    append_json_text(out, choice.text);
    out += fmt::format(R"(,"logprobs":{},"finish_reason":{}}})", wants_logprobs_ ? choice.logprobs.take_json() : "null",
                       finish_json(choice.reason));
  }
  out += fmt::format(R"(],"usage":{},"timings":{}}})", usage_.json(), usage_.timings_json());
  return out;
}

}  // namespace spate::api
