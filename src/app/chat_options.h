// Options of the commands that make a prompt from messages, and what they are made into.
#pragma once

#include <functional>
#include <string>

#include "app/options.h"
#include "chat/chat_template.h"
#include "gguf/gguf_file.h"

namespace spate::app {

inline constexpr const char* kChatGroup = "Chat";

struct ChatOptions {
  std::string template_file;  // empty: the model's own
  std::string template_name;  // empty: the default one
  std::string system;         // empty: no system message
  bool trust_messages = false;
};

// --system, --chat-template, --template-name, --special-in-messages. Each option is returned to `each`, so that a
// command can say what it needs besides.
void add_chat_options(CLI::App& parser, ChatOptions& options, const std::function<void(CLI::Option*)>& each = {});

// Error kUsage for a name with a file; or as of ChatTemplate::from_file() and from_gguf().
Result<chat::ChatTemplate> load_chat_template(const GgufFile& file, const ChatOptions& options);

}  // namespace spate::app
