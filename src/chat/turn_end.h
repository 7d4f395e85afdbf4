// What ends the assistant's turn.
#pragma once

#include <string>
#include <vector>

#include "chat/prompt_encoder.h"

namespace spate::chat {

struct TurnEnd {
  std::vector<TokenId> tokens;       // besides the vocabulary's end_of_generation, which the engine always heeds
  std::vector<std::string> strings;  // where the template ends a turn with plain text
};

// Found by rendering an answer and looking at what the template writes behind it: a structural token, or failing that a
// short text. Templates that write nothing behind the last answer end it by what begins the next turn. Empty where the
// template refuses the conversation tried.
TurnEnd find_turn_end(const ChatTemplate& chat_template, const PromptEncoder& encoder, const TemplateNames& names);

}  // namespace spate::chat
