// Answers of POST /v1/chat/completions (https://platform.openai.com/docs/api-reference/chat/object and
// .../chat/streaming).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/generation_fields.h"
#include "server/api/logprobs_json.h"

namespace spate::api {

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(std::shared_ptr<const ServedModel> model, const GenerationFields& fields);
  ChatAnswer(std::shared_ptr<const ServedModel> model, const GenerationFields& fields, AnswerHead head);

  void add(size_t prompt, const OutputDelta& delta, Events& events) override;
  void end(Events& events) override;
  std::string body() override;
  const Usage& usage() const override { return usage_; }

 private:
  struct Choice {
    bool begun = false;  // a stream has named the role
    std::string content;
    ChatLogprobs logprobs;
    std::vector<TokenAligner> aligner;  // one, where log-probabilities are wanted
    FinishReason reason = FinishReason::kStop;
  };

  std::string chunk(int choice, std::string_view delta, std::string_view logprobs, std::string_view finish,
                    std::string_view more = {}) const;
  void stream(Choice& choice, const OutputDelta& delta, Events& events);

  std::shared_ptr<const ServedModel> model_;
  AnswerHead head_;
  bool stream_, include_usage_, wants_logprobs_;
  std::string chunk_opening_, chunk_ending_;
  std::vector<Choice> choices_;
  Usage usage_;
};

}  // namespace spate::api
