// The body of POST /v1/chat/completions (https://platform.openai.com/docs/api-reference/chat/create).
#pragma once

#include "chat/conversation.h"
#include "server/api/generation_fields.h"

namespace spate::api {

struct ChatRequest {
  chat::Conversation conversation;  // roles as templates know them: developer is system
  GenerationFields generation;
};

// Error 400 with `param`: a field is wrong, or asks for what is not served.
ApiResult<ChatRequest> parse_chat_request(const Json& body, const ServedModel& model);

// The part that says what is written: messages, tools, chat_template_kwargs. For endpoints that only render.
ApiResult<chat::Conversation> parse_conversation(const Json& body);

// What the engine is to run on the rendered prompt: an answer also ends where the template ends a turn.
Request engine_request(const ChatRequest& request, std::vector<TokenId> prompt, const ServedModel& model);

}  // namespace spate::api
