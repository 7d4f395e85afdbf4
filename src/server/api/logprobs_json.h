// Log-probabilities in the shapes of the two APIs.
#pragma once

#include <span>
#include <string>

#include "engine/request.h"
#include "server/api/served_model.h"
#include "server/api/token_aligner.h"

namespace spate::api {

// Entries of chat's logprobs.content, separated by commas:
//   {"token":..,"logprob":..,"bytes":[..],"top_logprobs":[{"token":..,"logprob":..,"bytes":[..]}]}
// bytes are null for tokens that stand for no text.
class ChatLogprobs {
 public:
  void add(std::span<const AlignedToken> tokens, const ServedModel& model);
  bool empty() const { return entries_.empty(); }
  // {"content":[..],"refusal":null}; then empty.
  std::string take_json();

 private:
  std::string entries_;
};

// Completions' logprobs, a list a field:
//   {"tokens":[..],"token_logprobs":[..],"top_logprobs":[{TOKEN: logprob}],"text_offset":[..]}
// A token that is no UTF-8 by itself is written "bytes:\xNN..". The token that was drawn is always among its
// alternatives. Offsets count code points.
class CompletionLogprobs {
 public:
  void add(std::span<const AlignedToken> tokens, const ServedModel& model);
  // The prompt's first token, which nothing predicts.
  void add_first(TokenId token, size_t begin_chars, const ServedModel& model);
  void add(const PromptToken& token, size_t begin_chars, const ServedModel& model);
  bool empty() const { return tokens_.empty(); }
  std::string take_json();

 private:
  void add_columns(TokenId token, std::string_view logprob, std::string_view top, size_t begin_chars,
                   const ServedModel& model);

  std::string tokens_, logprobs_, top_, offsets_;
};

}  // namespace spate::api
