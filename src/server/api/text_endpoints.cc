#include "server/api/text_endpoints.h"

#include <fmt/format.h>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "server/api/chat_request.h"
#include "server/api/json_text.h"
#include "server/api/prompt_list.h"

namespace spate::api {
namespace {

// A token's text, or its bytes where they are none by themselves.
void append_piece(std::string& out, TokenId id, const ServedModel& model) {
  const std::string_view bytes = model.tokenizer().token_bytes(id, true);
  fmt::format_to(std::back_inserter(out), R"({{"id":{},"piece":)", id);
  if (is_valid_utf8(bytes)) {
    append_json_text(out, bytes);
  } else {
    char separator = '[';
    for (const char byte : bytes) {
      fmt::format_to(std::back_inserter(out), "{}{}", separator, static_cast<unsigned char>(byte));
      separator = ',';
    }
    out += ']';
  }
  out += '}';
}

std::string tokens_json(const std::vector<TokenId>& ids, bool with_pieces, const ServedModel& model) {
  std::string out = R"({"tokens":[)";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    if (with_pieces) {
      append_piece(out, ids[i], model);
    } else {
      fmt::format_to(std::back_inserter(out), "{}", ids[i]);
    }
  }
  fmt::format_to(std::back_inserter(out), R"(],"count":{},"max_model_len":{}}})", ids.size(),
                 model.options().context_tokens);
  return out;
}

ApiResult<ServedModel::Prompt> render(const Json& body, const ServedModel& model) {
  SPATE_TRY(const chat::Conversation conversation, parse_conversation(body));
  return model.render(conversation);
}

}  // namespace

ApiResult<std::string> tokenize(const Json& body, const ServedModel& model) {
  Fields fields(body);
  EncodeOptions options{.parse_special = true, .add_special = false};
  bool with_pieces = false;
  fields.boolean("add_special", options.add_special);
  fields.boolean("parse_special", options.parse_special);
  fields.boolean("with_pieces", with_pieces);
  const Json* content = fields.find("content");
  const Json* messages = fields.find("messages");
  SPATE_TRY_VOID(fields.result());
  if (content == nullptr && messages == nullptr)
    return ApiError::invalid("content", "content is missing: a text; or give messages", "missing_required_parameter");
  if (content != nullptr && messages != nullptr)
    return ApiError::invalid("messages", "there are both content and messages; give one of them");
  if (messages != nullptr) {
    SPATE_TRY(const ServedModel::Prompt prompt, render(body, model));
    return tokens_json(prompt.tokens, with_pieces, model);
  }
  if (!content->is_string()) return ApiError::invalid("content", "content must be a string", "invalid_type");
  const std::string& text = content->get_ref<const std::string&>();
  if (text.size() > kMaxTokenizedBytes)
    return ApiError::invalid(
        "content", fmt::format("content has {} bytes; there may be {}: split it", text.size(), kMaxTokenizedBytes),
        "string_above_max_length");
  return tokens_json(model.tokenizer().encode(text, options), with_pieces, model);
}

ApiResult<std::string> detokenize(const Json& body, const ServedModel& model) {
  Fields fields(body);
  const Json* tokens = fields.find("tokens");
  if (tokens == nullptr) return ApiError::invalid("tokens", "tokens is missing", "missing_required_parameter");
  if (tokens->is_array() && tokens->size() > kMaxDetokenized)
    return ApiError::invalid(
        "tokens", fmt::format("tokens is a list of {}; there may be {}: split it", tokens->size(), kMaxDetokenized),
        "array_above_max_length");
  SPATE_TRY(const std::vector<TokenId> ids, parse_ids(*tokens, "tokens", model));
  return R"({"content":)" + json_text(model.tokenizer().decode(ids, true)) + "}";
}

ApiResult<std::string> apply_template(const Json& body, const ServedModel& model) {
  SPATE_TRY(const ServedModel::Prompt prompt, render(body, model));
  return R"({"prompt":)" + json_text(prompt.text) + "}";
}

}  // namespace spate::api
