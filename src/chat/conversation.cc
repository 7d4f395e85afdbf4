#include "chat/conversation.h"

#include "chat/json_reader.h"
#include "jinja/limits.h"

namespace spate::chat {
namespace {

Error bad(std::string_view where, std::string_view what) {
  return Error::usage(fmt::format("{}: {}", where, what));
}

Result<void> check_content(const Json& content, std::string_view where) {
  if (content.is_null() || content.is_string()) return {};
  if (!content.is_array()) return bad(where, "is neither a string, nor null, nor a list of parts");
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string part_path = fmt::format("{}[{}]", where, i);
    if (!part.is_object()) return bad(part_path, "is no object");
    const auto type = part.find("type");
    if (type == part.end() || !type->is_string()) return bad(part_path, "has no `type`");
    const auto text = part.find("text");
    if (*type == "text" && (text == part.end() || !text->is_string()))
      return bad(part_path, "is of the type text, but its `text` is no string");
  }
  return {};
}

Result<void> check_tool_calls(const Json& calls, std::string_view where) {
  if (calls.is_null()) return {};
  if (!calls.is_array()) return bad(where, "is no list");
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string path = fmt::format("{}[{}]", where, i);
    if (!calls[i].is_object()) return bad(path, "is no object");
    const auto function = calls[i].find("function");
    if (function == calls[i].end() || !function->is_object()) return bad(path, "has no object `function`");
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) return bad(path, "its function has no `name`");
    const auto arguments = function->find("arguments");
    if (arguments != function->end() && !arguments->is_object() && !arguments->is_string())
      return bad(path, "its arguments are neither an object nor a string");
  }
  return {};
}

}  // namespace

std::string Message::content_text() const {
  if (!content) return {};
  if (content->is_string()) return content->get<std::string>();
  std::string text;
  if (content->is_array())
    for (const Json& part : *content)
      if (part.at("type") == "text") text += part.at("text").get_ref<const std::string&>();
  return text;
}

Json Message::to_json() const {
  Json json = {{"role", role}};
  if (content) json["content"] = *content;
  if (tool_calls) json["tool_calls"] = *tool_calls;
  json.update(fields);
  return json;
}

Result<Message> Message::from_json(const Json& json, std::string_view where) {
  if (!json.is_object()) return bad(where, "is no object");
  Message message;
  for (const auto& [key, value] : json.items()) {
    const std::string path = fmt::format("{}.{}", where, key);
    if (key == "role") {
      if (!value.is_string() || value.get_ref<const std::string&>().empty()) return bad(path, "is no name of a role");
      message.role = value;
    } else if (key == "content") {
      SPATE_TRY_VOID(check_content(value, path));
      message.content = value;
    } else if (key == "tool_calls") {
      SPATE_TRY_VOID(check_tool_calls(value, path));
      message.tool_calls = value;
    } else {
      message.fields[key] = value;
    }
  }
  if (message.role.empty()) return bad(where, "has no `role`");
  return message;
}

Result<Conversation> Conversation::from_json(const Json& json) {
  if (!json.is_object()) return Error::usage("a conversation must be a JSON object with `messages`");
  Conversation conversation;
  for (const auto& [key, value] : json.items()) {
    if (key == "messages") {
      if (!value.is_array()) return bad(key, "is no list");
      for (size_t i = 0; i < value.size(); ++i) {
        SPATE_TRY(Message message, Message::from_json(value[i], fmt::format("messages[{}]", i)));
        conversation.messages.push_back(std::move(message));
      }
    } else if (key == "tools") {
      if (!value.is_null() && !value.is_array()) return bad(key, "is no list");
      conversation.tools = value;
    } else if (key == "add_generation_prompt") {
      if (!value.is_boolean()) return bad(key, "is neither true nor false");
      conversation.add_generation_prompt = value;
    } else {
      conversation.variables[key] = value;
    }
  }
  if (!json.contains("messages")) return Error::usage("a conversation must have `messages`");
  return conversation;
}

Json Conversation::to_json() const {
  Json json = {{"messages", Json::array()}};
  for (const Message& message : messages) json["messages"].push_back(message.to_json());
  if (!tools.is_null()) json["tools"] = tools;
  json["add_generation_prompt"] = add_generation_prompt;
  json.update(variables);
  return json;
}

Result<Json> parse_json(std::string_view text, std::string_view what) {
  Json json;
  if (const auto problem = read_json(text, {.max_depth = jinja::kMaxInputDepth}, json)) return bad(what, problem->what);
  return json;
}

}  // namespace spate::chat
