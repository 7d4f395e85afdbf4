// A conversation as templates and the OpenAI API see it: messages with roles, tools, and whatever else a template
// takes.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/json_reader.h"

namespace spate::chat {

// One message, its members as in the OpenAI API's chat completions.
struct Message {
  std::string role;  // not empty: "system", "user", "assistant", "tool", ...
  // A string; null, where there are only tool calls; or a list of parts such as {"type": "text", "text": ".."}.
  std::optional<Json> content;
  // Null, or a list of {"id": .., "type": "function", "function": {"name": .., "arguments": ..}}, whose arguments are
  // an object or the text of one.
  std::optional<Json> tool_calls = {};
  // All other members, for the template: name, tool_call_id, reasoning_content, ...
  Json fields = Json::object();

  // The text of the content: the string, or its text parts one after the other.
  std::string content_text() const;

  Json to_json() const;
  // where: what to call it in messages, "messages[2]". Error kUsage for anything that is not as above.
  static Result<Message> from_json(const Json& json, std::string_view where = "message");
};

struct Conversation {
  std::vector<Message> messages;
  Json tools = nullptr;               // null, or a list of {"type": "function", "function": {"name": .., ...}}
  bool add_generation_prompt = true;  // end where the assistant is to go on
  Json variables = Json::object();    // more names for the template: enable_thinking, documents, ...

  // {"messages": [..], "tools": [..], "add_generation_prompt": true, ..}; any other member is a variable. Error kUsage,
  // with the path of what is wrong. Strings must be UTF-8, as in all JSON.
  static Result<Conversation> from_json(const Json& json);
  Json to_json() const;
};

// JSON from outside. what: what to call it in messages. Error kUsage, as of read_json(); its depth may be as great as
// templates can take (jinja::kMaxInputDepth).
Result<Json> parse_json(std::string_view text, std::string_view what);

}  // namespace spate::chat
