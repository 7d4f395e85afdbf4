#include "chat/turn_end.h"

namespace spate::chat {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";
constexpr std::string_view kAnswer = "an answer to look for";
// A stop string shorter than this could be part of any answer; what is longer is no mark, but more text of the
// template.
constexpr size_t kMinMarkBytes = 2, kMaxMarkBytes = 64;

// Where the template's own bytes from `begin` on end.
size_t end_of_template_bytes(const Rendered& rendered, size_t begin) {
  size_t end = begin;
  size_t run_begin = 0;
  for (const jinja::Run& run : rendered.runs) {
    if (run_begin <= end && run.end > end && run.origin == jinja::Origin::kTemplate) end = run.end;
    run_begin = run.end;
  }
  return end;
}

// What the template writes behind the answer of a conversation.
TurnEnd end_of(const ChatTemplate& chat_template, const PromptEncoder& encoder, const TemplateNames& names,
               std::vector<Message> messages) {
  Conversation conversation;
  conversation.messages = std::move(messages);
  conversation.add_generation_prompt = false;
  const Result<Rendered> rendered = chat_template.render(conversation, names, kTrialLimits);
  if (!rendered.ok()) return {};
  const std::string& text = rendered->text;
  const size_t answer = text.rfind(kAnswer);
  if (answer == std::string::npos) return {};
  const size_t behind = answer + kAnswer.size(), end = end_of_template_bytes(*rendered, behind);
  const size_t begin = text.find_first_not_of(kWhiteSpace, behind);
  if (begin == std::string::npos || begin >= end) return {};
  const std::vector<TokenId> ids = encoder.encode_rest(*rendered, begin);
  if (!ids.empty() && encoder.is_structural(ids.front())) return {.tokens = {ids.front()}, .strings = {}};
  const size_t last = text.find_last_not_of(kWhiteSpace, end - 1);
  const std::string mark = text.substr(begin, last + 1 - begin);
  if (mark.size() < kMinMarkBytes || mark.size() > kMaxMarkBytes) return {};
  return {.tokens = {}, .strings = {mark}};
}

}  // namespace

TurnEnd find_turn_end(const ChatTemplate& chat_template, const PromptEncoder& encoder, const TemplateNames& names) {
  const Message question{.role = "user", .content = "a question"};
  const Message answer{.role = "assistant", .content = std::string(kAnswer)};
  TurnEnd end = end_of(chat_template, encoder, names, {question, answer});
  if (end.tokens.empty() && end.strings.empty())
    end = end_of(chat_template, encoder, names, {question, answer, question});
  return end;
}

}  // namespace spate::chat
