// Answers of POST /v1/completions (https://platform.openai.com/docs/api-reference/completions/object).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/completion_request.h"
#include "server/api/logprobs_json.h"

namespace spate::api {

class CompletionAnswer final : public Answer {
 public:
  CompletionAnswer(std::shared_ptr<const ServedModel> model, const CompletionRequest& request);
  CompletionAnswer(std::shared_ptr<const ServedModel> model, const CompletionRequest& request, AnswerHead head);

  void add(size_t prompt, const OutputDelta& delta, Events& events) override;
  void end(Events& events) override;
  std::string body() override;
  const Usage& usage() const override { return usage_; }

 private:
  // What choices of a prompt begin with.
  struct Prompt {
    std::string echo = {};                 // its text; empty where there is no echo
    size_t n_chars = 0;                    // of echo
    std::vector<size_t> begin_chars = {};  // of each token in it; empty without echo
    CompletionLogprobs logprobs = {};      // of the echo, as far as they are known: written once, for all choices
    size_t n_scored = 0;                   // tokens from the second
    std::vector<OutputDelta> early = {};   // of other choices than the one that scores, before it had done so
    bool scored = false;                   // or it need not be
  };
  struct Choice {
    bool begun = false;
    std::string text;
    CompletionLogprobs logprobs;
    std::vector<TokenAligner> aligner;  // one, where log-probabilities are wanted
    FinishReason reason = FinishReason::kStop;
  };

  Prompt make_prompt(const std::vector<TokenId>& ids, bool echo) const;
  bool wait_for_scores(Prompt& prompt, const OutputDelta& delta);
  void take(size_t prompt, const OutputDelta& delta, Events& events);
  void begin(const Prompt& prompt, Choice& choice);
  std::string chunk(size_t index, std::string_view text, std::string_view logprobs, std::string_view finish,
                    std::string_view more = {}) const;

  std::shared_ptr<const ServedModel> model_;
  AnswerHead head_;
  bool stream_, include_usage_, wants_logprobs_;
  std::string chunk_ending_, opening_;
  size_t n_;
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;  // [prompts, n]
  Usage usage_;
};

}  // namespace spate::api
