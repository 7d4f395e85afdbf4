#include "load/answer_event.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace spate::load {

namespace {

using Json = nlohmann::json;
constexpr size_t kMaxErrorBytes = 200;

std::string one_line(std::string text) {
  text.resize(std::min(text.size(), kMaxErrorBytes));
  text = sanitize_utf8(text);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
  return text;
}

// Of {"error": {"message": ".."}}, {"error": ".."} or {"message": ".."}; of anything else, the text that it stands in.
// (To write the value again would take a stack as deep as a server that means harm nests it.)
std::string message_of(const Json& error, std::string_view text) {
  if (error.is_string()) return error.get<std::string>();
  if (error.is_object()) {
    const auto message = error.find("message");
    if (message != error.end() && message->is_string()) return message->get<std::string>();
  }
  return std::string(text);
}

// Members whose text is something that the model wrote.
bool has_text(const Json& said) {
  if (!said.is_object()) return false;
  for (const char* name : {"text", "content", "reasoning_content", "reasoning"}) {
    const auto member = said.find(name);
    if (member != said.end() && member->is_string() && !member->get_ref<const std::string&>().empty()) return true;
  }
  const auto calls = said.find("tool_calls");
  return calls != said.end() && calls->is_array() && !calls->empty();
}

std::optional<int> count_of(const Json& usage, const char* name) {
  const auto count = usage.find(name);
  if (count == usage.end() || !count->is_number_unsigned() || *count > 1'000'000'000) return std::nullopt;
  return count->get<int>();
}

}  // namespace

Result<AnswerEvent> parse_answer_event(std::string_view data) {
  AnswerEvent event;
  if (data == "[DONE]") {
    event.is_done = true;
    return event;
  }
  const Json json = Json::parse(data, nullptr, false);
  if (!json.is_object())
    return Error::bad_file("event", fmt::format("is no JSON object: {}", one_line(std::string(data))));
  if (const auto error = json.find("error"); error != json.end() && !error->is_null()) {
    event.error = one_line(message_of(*error, data));
    return event;
  }
  if (const auto usage = json.find("usage"); usage != json.end() && usage->is_object()) {
    event.prompt_tokens = count_of(*usage, "prompt_tokens");
    event.completion_tokens = count_of(*usage, "completion_tokens");
  }
  const auto choices = json.find("choices");
  if (choices == json.end()) return event;
  if (!choices->is_array()) return Error::bad_file("event", "has `choices` that are no list");
  for (const Json& choice : *choices) {
    if (!choice.is_object()) return Error::bad_file("event", "has a choice that is no object");
    const auto delta = choice.find("delta");
    event.has_text |= has_text(delta != choice.end() ? *delta : choice);
  }
  return event;
}

std::string error_text(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return one_line(std::string(body));
  const auto error = json.find("error");
  return one_line(message_of(error != json.end() && !error->is_null() ? *error : json, body));
}

}  // namespace spate::load
