// The model as the endpoints see it: its names, its limits, and what turns text and conversations into tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/executor.h"
#include "base/error.h"
#include "engine/request.h"
#include "server/api/error_json.h"
#include "text/tokenizer.h"

namespace spate::chat {
class ChatTemplate;
struct Conversation;
}  // namespace spate::chat

namespace spate::api {

struct ServedModelOptions {
  std::vector<std::string> names = {};  // at least one; the first is what answers say, the others are aliases
  int64_t created = 0;                  // when the model was loaded or made, Unix seconds
  int context_tokens = 0;               // of one request, prompt and answer together: Engine::context_tokens()
  int vocab_size = 0;                   // ids from 0 that the model takes; may exceed the tokenizer's
  int d_model = 0;                      // length of an embedding
  // Where a request does not say. OpenAI's own: the model's distribution as it is.
  SamplingParams sampling{.temperature = 1};
  Pooling pooling = Pooling::kMean;  // of embeddings; kMean or kLast
  bool trust_messages = false;       // special tokens written in messages are those tokens (chat/prompt_encoder.h)
};

// Immutable once made: any thread may use it.
class ServedModel {
 public:
  // Without a chat_template, requests with messages are refused.
  ServedModel(std::shared_ptr<const Tokenizer> tokenizer, std::optional<chat::ChatTemplate> chat_template,
              ServedModelOptions options);
  ~ServedModel();
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const ServedModelOptions& options() const { return options_; }
  const std::string& name() const { return options_.names.front(); }
  bool has_name(std::string_view name) const;
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  bool has_token(int64_t id) const { return id >= 0 && id < options_.vocab_size; }

  // Error 400: a text of so many bytes has more tokens than the context, however it is split. Cheap, and before a text
  // is tokenised, which takes a worker a second for some megabytes.
  ApiResult<void> check_bytes(size_t n_bytes, const std::string& param) const;

  // The text that the template makes of the conversation, and its tokens. Error 400: there is no template, or it
  // refuses the conversation, or that is beyond the context (check_bytes()).
  struct Prompt {
    std::string text;
    std::vector<TokenId> tokens;
  };
  ApiResult<Prompt> render(const chat::Conversation& conversation) const;

  // What ends an answer, besides the vocabulary's end_of_generation. Empty without a template.
  const std::vector<TokenId>& turn_end_tokens() const;
  const std::vector<std::string>& turn_end_strings() const;

  // Readable in JSON: a token that is no UTF-8 by itself as \xNN for each byte. Of control tokens, their name.
  std::string token_text(TokenId id) const;

 private:
  struct Chat;

  std::shared_ptr<const Tokenizer> tokenizer_;
  ServedModelOptions options_;
  size_t longest_token_bytes_;
  std::unique_ptr<const Chat> chat_;  // null: there is no template
};

}  // namespace spate::api
