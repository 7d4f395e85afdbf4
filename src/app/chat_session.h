// One conversation with one model: what has been said, whether the next turn fits, and the answer to it. Knows nothing
// of terminals.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/generate.h"
#include "chat/chat_template.h"
#include "chat/context_tokens.h"
#include "chat/prompt_encoder.h"
#include "chat/turn_end.h"
#include "engine/engine.h"

namespace spate::app {

struct ChatSettings {
  SamplingParams sampling = {};
  std::vector<LogitBias> logit_bias = {};
  std::vector<std::string> stop_strings = {};
  std::optional<int> max_tokens = {};  // of an answer, at least 1; none: until the window is full
  bool trust_messages = false;         // special tokens count wherever they are written
};

class ChatSession {
 public:
  // The engine has this tokenizer, and keeps the conversation's KV (KvReuse::kOneConversation); both outlive this.
  ChatSession(Engine& engine, const Tokenizer& tokenizer, chat::ChatTemplate chat_template, ChatSettings settings);
  ChatSession(const ChatSession&) = delete;
  ChatSession& operator=(const ChatSession&) = delete;

  // Whether the window has room for the conversation with one more message and an answer of a useful length.
  struct Fit {
    int n_prompt = 0;  // tokens
    bool fits = false;
    std::optional<int> n_drop =
        {};  // where it does not: the least number of oldest turns without which it would, if any
  };
  // Error: the template refuses the conversation.
  Result<Fit> fit(const std::string& message) const;

  struct Answer {
    Generation generation;
    int n_prompt = 0;          // tokens of the whole conversation up to the answer
    int n_prompt_run = 0;      // of these, how many were computed; the others' keys were there
    bool window_full = false;  // the answer ended for want of room
  };
  // Adds a message of the user and the answer to the conversation. Where nothing was answered, because it was cancelled
  // or failed before the first text, the conversation is as before. Errors: as of fit() and generate().
  Result<Answer> answer(const std::string& message, const std::function<void(std::string_view)>& on_text,
                        const std::function<bool()>& cancelled);

  // A turn is a message of the user and all that follows up to the next one.
  int n_turns() const;
  // n in [0, n_turns()]. System messages stay.
  void drop_oldest(int n);
  // Everything but the system message.
  void reset();
  // Empty: none.
  void set_system(const std::string& text);
  std::string system() const;

  const chat::Conversation& conversation() const { return conversation_; }
  void load(chat::Conversation conversation) {
    conversation_ = std::move(conversation);
    n_in_window_ = 0;
  }

  // Tokens that the window holds, and those of the conversation when its last answer ended, or when turns were dropped
  // after it; 0 before there was an answer.
  int window() const { return engine_.context_tokens(); }
  int n_in_window() const { return n_in_window_; }

 private:
  // The prompt that asks for the answer to `conversation`.
  Result<chat::Rendered> render(const chat::Conversation& conversation) const;
  chat::Conversation with_message(const std::string& message) const;
  bool has_room(int n_prompt) const;
  void note_answer(const chat::Rendered& rendered, std::vector<TokenId> prompt, const Generation& generation);

  Engine& engine_;
  const Tokenizer& tokenizer_;
  chat::ChatTemplate template_;
  ChatSettings settings_;
  chat::TemplateNames names_;
  chat::PromptEncoder encoder_;
  chat::TurnEnd turn_end_;
  chat::ContextTokens context_;
  chat::Conversation conversation_;
  int n_in_window_ = 0;
};

}  // namespace spate::app
