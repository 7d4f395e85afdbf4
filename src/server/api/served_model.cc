#include "server/api/served_model.h"

#include <algorithm>
#include <ctime>
#include <fmt/format.h>
#include <iterator>

#include "base/utf8.h"
#include "chat/chat_template.h"
#include "chat/prompt_encoder.h"
#include "chat/turn_end.h"

namespace spate::api {
namespace {

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

// In bytes; of an unknown token, those of any code point.
size_t longest_token(const Tokenizer& tokenizer) {
  size_t longest = 4;
  for (TokenId id = 0; id < tokenizer.vocab().size(); ++id)
    longest = std::max(longest, tokenizer.token_bytes(id, true).size());
  return longest;
}

}  // namespace

struct ServedModel::Chat {
  Chat(const Tokenizer& tokenizer, chat::ChatTemplate given, bool trust_messages)
      : chat_template(std::move(given)),
        names(chat::TemplateNames::of(tokenizer.vocab(), local_time())),
        encoder(tokenizer, chat_template, trust_messages),
        turn_end(chat::find_turn_end(chat_template, encoder, names)) {}

  chat::ChatTemplate chat_template;
  chat::TemplateNames names;
  chat::PromptEncoder encoder;
  chat::TurnEnd turn_end;
};

ServedModel::ServedModel(std::shared_ptr<const Tokenizer> tokenizer, std::optional<chat::ChatTemplate> chat_template,
                         ServedModelOptions options)
    : tokenizer_(std::move(tokenizer)), options_(std::move(options)), longest_token_bytes_(longest_token(*tokenizer_)) {
  SPATE_CHECK(!options_.names.empty() && options_.context_tokens > 0 && options_.vocab_size > 0);
  SPATE_CHECK(options_.pooling != Pooling::kNone);
  if (chat_template)
    chat_ = std::make_unique<const Chat>(*tokenizer_, *std::move(chat_template), options_.trust_messages);
}

ServedModel::~ServedModel() = default;

bool ServedModel::has_name(std::string_view name) const {
  return std::find(options_.names.begin(), options_.names.end(), name) != options_.names.end();
}

ApiResult<void> ServedModel::check_bytes(size_t n_bytes, const std::string& param) const {
  const size_t n_least = n_bytes / longest_token_bytes_;
  if (n_least <= static_cast<size_t>(options_.context_tokens)) return {};
  return ApiError::invalid(param,
                           fmt::format("This model's maximum context length is {} tokens, and {} has at least {}. "
                                       "Shorten it.",
                                       options_.context_tokens, param, n_least),
                           "context_length_exceeded");
}

ApiResult<ServedModel::Prompt> ServedModel::render(const chat::Conversation& conversation) const {
  if (!chat_) {
    ApiError error = ApiError::invalid(
        "this model takes no messages, only prompts (/v1/completions): it has no chat template that can be used");
    error.code = "no_chat_template";
    return error;
  }
  chat::TemplateNames names = chat_->names;
  names.now = local_time();
  Result<chat::Rendered> rendered = chat_->chat_template.render(conversation, names);
  if (!rendered) return ApiError::invalid("messages", rendered.error().message, "template_error");
  SPATE_TRY_VOID(check_bytes(rendered->text.size(), "messages"));
  std::vector<TokenId> tokens = chat_->encoder.encode(*rendered);
  return Prompt{.text = std::move(rendered->text), .tokens = std::move(tokens)};
}

const std::vector<TokenId>& ServedModel::turn_end_tokens() const {
  static const std::vector<TokenId> none;
  return chat_ ? chat_->turn_end.tokens : none;
}

const std::vector<std::string>& ServedModel::turn_end_strings() const {
  static const std::vector<std::string> none;
  return chat_ ? chat_->turn_end.strings : none;
}

std::string ServedModel::token_text(TokenId id) const {
  const std::string_view bytes = tokenizer_->token_bytes(id, true);
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string text;
  for (const char byte : bytes) fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

}  // namespace spate::api
