// One event of a streamed completion, of either of OpenAI's APIs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace spate::load {

struct AnswerEvent {
  bool is_done = false;                   // [DONE]: nothing more will come
  bool has_text = false;                  // some choice says something, thoughts and tool calls included
  std::optional<std::string> error = {};  // what the server says went wrong
  std::optional<int> prompt_tokens = {}, completion_tokens = {};  // of `usage`
};

// data: of the event. Error kBadFile: no JSON object, or members of other types than the API has.
Result<AnswerEvent> parse_answer_event(std::string_view data);

// What the body of an answer with an error status says: its error.message where it has one, the body itself otherwise,
// in one short line.
std::string error_text(std::string_view body);

}  // namespace spate::load
