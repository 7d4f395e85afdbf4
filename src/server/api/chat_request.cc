#include "server/api/chat_request.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace spate::api {
namespace {

using chat::Conversation;
using chat::Message;

constexpr int kMostTokens = std::numeric_limits<int>::max();
constexpr size_t kMaxMessageMembers = 64;
constexpr size_t kMaxTools = 128;
constexpr size_t kMaxVariables = 64;
constexpr size_t kMaxWordBytes = 64;

constexpr std::array<std::string_view, 6> kRoles = {"system", "developer", "user", "assistant", "tool", "function"};

// What a request may not hand to the template under these names, for they mean something else there.
constexpr std::array<std::string_view, 7> kReservedVariables = {
    "messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token"};

template <size_t n>
bool contains(const std::array<std::string_view, n>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

ApiResult<void> check_part(const Json& part, const std::string& path) {
  if (!part.is_object()) return ApiError::invalid(path, fmt::format("{} must be an object", path), "invalid_type");
  const auto type = part.find("type");
  if (type == part.end() || !type->is_string())
    return ApiError::invalid(path + ".type", fmt::format("{} has no type", path), "missing_required_parameter");
  if (*type != "text")
    return ApiError::invalid(path + ".type",
                             fmt::format("{} is of the type {}; this model reads text alone", path,
                                         quote(type->get_ref<const std::string&>(), kMaxWordBytes)),
                             "unsupported_value");
  const auto text = part.find("text");
  if (text == part.end() || !text->is_string())
    return ApiError::invalid(path + ".text", fmt::format("{}.text must be a string", path), "invalid_type");
  return {};
}

// Of a message whose null members are gone: content that was null is given back to templates that look for it.
ApiResult<void> check_content(Json& message, const std::string& path) {
  const std::string at = path + ".content";
  const auto content = message.find("content");
  if (content == message.end() && message["role"] == "assistant") {
    message["content"] = message.contains("tool_calls") ? Json() : Json("");
    return {};
  }
  if (content == message.end() || (!content->is_string() && !content->is_array()))
    return ApiError::invalid(at, fmt::format("{} must be a string or a list of text parts", at), "invalid_type");
  if (content->is_string()) return {};
  for (size_t i = 0; i < content->size(); ++i) SPATE_TRY_VOID(check_part((*content)[i], fmt::format("{}[{}]", at, i)));
  return {};
}

ApiResult<Message> parse_message(const Json& json, const std::string& path) {
  if (!json.is_object()) return ApiError::invalid(path, fmt::format("{} must be an object", path), "invalid_type");
  if (json.size() > kMaxMessageMembers)
    return ApiError::invalid(path,
                             fmt::format("{} has {} members; it may have {}", path, json.size(), kMaxMessageMembers));
  Json message = Json::object();  // null and absent are one; templates would see a difference
  for (const auto& [name, value] : json.items())
    if (!value.is_null() && !(name == "tool_calls" && value.empty())) message[name] = value;
  const auto role = message.find("role");
  if (role == message.end())
    return ApiError::invalid(path + ".role", fmt::format("{} has no role", path), "missing_required_parameter");
  if (!role->is_string() || !contains(kRoles, role->get_ref<const std::string&>()))
    return ApiError::invalid(path + ".role",
                             fmt::format("{}.role must be system, developer, user, assistant, tool or function", path));
  if (*role == "developer") *role = "system";
  SPATE_TRY_VOID(check_content(message, path));
  Result<Message> parsed = Message::from_json(message, path);
  if (!parsed) return ApiError::invalid(path, parsed.error().message);
  return std::move(parsed).value();
}

ApiResult<std::vector<Message>> parse_messages(const Json* list) {
  if (list == nullptr) return ApiError::invalid("messages", "messages is missing", "missing_required_parameter");
  if (!list->is_array() || list->empty())
    return ApiError::invalid("messages", "messages must be a list of at least one message", "invalid_type");
  std::vector<Message> messages;
  messages.reserve(list->size());
  for (const Json& json : *list) {
    SPATE_TRY(Message message, parse_message(json, fmt::format("messages[{}]", messages.size())));
    messages.push_back(std::move(message));
  }
  return messages;
}

ApiResult<void> check_tool(const Json& tool, const std::string& path) {
  if (!tool.is_object()) return ApiError::invalid(path, fmt::format("{} must be an object", path), "invalid_type");
  const auto type = tool.find("type");
  if (type == tool.end() || *type != "function")
    return ApiError::invalid(path + ".type", fmt::format("{}.type must be function", path));
  const auto function = tool.find("function");
  if (function == tool.end() || !function->is_object())
    return ApiError::invalid(path + ".function", fmt::format("{}.function must be an object", path), "invalid_type");
  const auto name = function->find("name");
  if (name == function->end() || !name->is_string() || name->get_ref<const std::string&>().empty())
    return ApiError::invalid(path + ".function.name", fmt::format("{}.function has no name", path),
                             "missing_required_parameter");
  return {};
}

// With tool_choice none, the template does not hear of tools at all: a model cannot call what it has not been told of.
ApiResult<Json> parse_tools(Fields& fields) {
  const Json* choice = fields.find("tool_choice");
  if (choice != nullptr && *choice != "auto" && *choice != "none")
    return ApiError::invalid("tool_choice", "tool_choice may be auto or none; answers are not constrained to tools yet",
                             "unsupported_value");
  if (const Json* functions = fields.find("functions"); functions != nullptr && !functions->empty())
    return ApiError::invalid("functions", "functions gave way to tools, which this server takes",
                             "unsupported_parameter");
  const Json* tools = fields.find("tools");
  if (tools == nullptr) return Json();
  if (!tools->is_array()) return ApiError::invalid("tools", "tools must be a list", "invalid_type");
  if (tools->size() > kMaxTools)
    return ApiError::invalid("tools", fmt::format("tools has {} entries; it may have {}", tools->size(), kMaxTools),
                             "array_above_max_length");
  for (size_t i = 0; i < tools->size(); ++i) SPATE_TRY_VOID(check_tool((*tools)[i], fmt::format("tools[{}]", i)));
  if (tools->empty() || (choice != nullptr && *choice == "none")) return Json();
  return *tools;
}

ApiResult<void> refuse_constrained(Fields& fields) {
  const Json* format = fields.find("response_format");
  if (format == nullptr) return {};
  if (!format->is_object() || !format->contains("type") || !format->at("type").is_string())
    return ApiError::invalid("response_format", "response_format must be an object with a type", "invalid_type");
  if (format->at("type") == "text") return {};
  return ApiError::invalid("response_format.type",
                           "response_format may be text; answers are not constrained to JSON yet", "unsupported_value");
}

ApiResult<void> refuse_other_media(Fields& fields) {
  const Json* modalities = fields.find("modalities");
  if (modalities == nullptr) return {};
  if (modalities->is_array() && modalities->size() == 1 && modalities->front() == "text") return {};
  return ApiError::invalid("modalities", "modalities may be [\"text\"]: this model writes text alone",
                           "unsupported_value");
}

ApiResult<Json> parse_variables(Fields& fields) {
  if (fields.find("chat_template") != nullptr)
    return ApiError::invalid("chat_template",
                             "the template is the server's choice; a request may only give it variables, "
                             "as chat_template_kwargs",
                             "unsupported_parameter");
  Json variables = Json::object();
  std::string effort;
  fields.text("reasoning_effort", effort, kMaxWordBytes);
  SPATE_TRY_VOID(fields.result());
  if (!effort.empty()) variables["reasoning_effort"] = effort;
  const Json* given = fields.find("chat_template_kwargs");
  if (given == nullptr) return variables;
  if (!given->is_object() || given->size() > kMaxVariables)
    return ApiError::invalid("chat_template_kwargs",
                             fmt::format("chat_template_kwargs must be an object of at most {} members", kMaxVariables),
                             "invalid_type");
  for (const auto& [name, value] : given->items()) {
    if (contains(kReservedVariables, name))
      return ApiError::invalid(fmt::format("chat_template_kwargs.{}", name),
                               fmt::format("chat_template_kwargs may not have {}", name));
    variables[name] = value;
  }
  return variables;
}

void read_logprobs(Fields& fields, std::optional<int>& n_logprobs) {
  bool wanted = false;
  std::optional<int> top;
  fields.boolean("logprobs", wanted);
  fields.integer("top_logprobs", top, 0, kMaxTopLogprobs);
  if (top.value_or(0) > 0 && !wanted) fields.fail("top_logprobs", "top_logprobs is of no use unless logprobs is true");
  if (wanted) n_logprobs = top.value_or(0);
}

}  // namespace

ApiResult<Conversation> parse_conversation(const Json& body) {
  Fields fields(body);
  Conversation conversation;
  SPATE_TRY(conversation.messages, parse_messages(fields.find("messages")));
  SPATE_TRY(conversation.tools, parse_tools(fields));
  SPATE_TRY(conversation.variables, parse_variables(fields));
  fields.boolean("add_generation_prompt", conversation.add_generation_prompt);
  SPATE_TRY_VOID(fields.result());
  return conversation;
}

ApiResult<ChatRequest> parse_chat_request(const Json& body, const ServedModel& model) {
  ChatRequest request;
  Fields fields(body);
  read_generation(fields, model, 1, request.generation);
  fields.integer("max_completion_tokens", request.generation.max_tokens, 1, kMostTokens);  // the later name of the two
  read_logprobs(fields, request.generation.n_logprobs);
  SPATE_TRY_VOID(fields.result());
  SPATE_TRY_VOID(refuse_constrained(fields));
  SPATE_TRY_VOID(refuse_other_media(fields));
  SPATE_TRY(request.conversation, parse_conversation(body));
  return request;
}

Request engine_request(const ChatRequest& request, std::vector<TokenId> prompt, const ServedModel& model) {
  Request engine = engine_request(request.generation, std::move(prompt));
  if (engine.ignore_eos) return engine;
  const auto& tokens = model.turn_end_tokens();
  const auto& strings = model.turn_end_strings();
  engine.stop_tokens.insert(engine.stop_tokens.end(), tokens.begin(), tokens.end());
  engine.stop_strings.insert(engine.stop_strings.end(), strings.begin(), strings.end());
  return engine;
}

}  // namespace spate::api
