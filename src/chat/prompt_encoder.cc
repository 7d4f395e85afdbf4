#include "chat/prompt_encoder.h"

#include <algorithm>

#include "text/special_tokens.h"

namespace spate::chat {
namespace {

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// Which bytes of a rendering one side wrote.
class Authors {
 public:
  explicit Authors(const Rendered& rendered) : runs_(rendered.runs) {}

  bool all_of_template(size_t begin, size_t end) const {
    const size_t run = run_at(begin);
    return runs_[run].origin == jinja::Origin::kTemplate && runs_[run].end >= end;
  }
  bool one_author(size_t begin, size_t end) const { return runs_[run_at(begin)].end >= end; }

 private:
  size_t run_at(size_t at) const {
    const auto run = std::upper_bound(runs_.begin(), runs_.end(), at,
                                      [](size_t position, const jinja::Run& r) { return position < r.end; });
    return static_cast<size_t>(run - runs_.begin());
  }

  const std::vector<jinja::Run>& runs_;
};

}  // namespace

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer, const ChatTemplate& chat_template, bool trust_messages)
    : tokenizer_(tokenizer), trust_messages_(trust_messages) {
  for (const bool with_tools : {false, true}) note_written({chat_template.source(with_tools), {}});
  // Templates put some together: '<|' + message.role + '|>'.
  const auto names = TemplateNames::of(tokenizer.vocab(), std::tm{});
  const Message system{.role = "system", .content = "a"}, user{.role = "user", .content = "b"},
      assistant{.role = "assistant", .content = "c"};
  for (const std::vector<Message>& messages : {std::vector{system, user, assistant, user}, {user, assistant, user}}) {
    Conversation conversation;
    conversation.messages = messages;
    if (const Result<Rendered> rendered = chat_template.render(conversation, names, kTrialLimits); rendered.ok())
      note_written(*rendered);
  }
}

// User-defined tokens in what the template wrote; without runs, that is all.
void PromptEncoder::note_written(const Rendered& written) {
  const Vocab& vocab = tokenizer_.vocab();
  const Authors authors(written);
  tokenizer_.encode_filtered(written.text, [&](TokenId id, size_t begin, size_t end) {
    if (vocab.kinds[id] == TokenKind::kUserDefined && !is_blank(vocab.tokens[id]) &&
        (written.runs.empty() || authors.all_of_template(begin, end)))
      spelt_.insert(id);
    return false;
  });
}

bool PromptEncoder::is_structural(TokenId id) const {
  const Vocab& vocab = tokenizer_.vocab();
  if (id < 0 || id >= vocab.size()) return false;
  switch (vocab.kinds[id]) {
    case TokenKind::kControl:
    case TokenKind::kUnknown:
      return true;
    case TokenKind::kUserDefined:
      return vocab.ends_generation(id) || id == vocab.bos || spelt_.contains(id);
    case TokenKind::kNormal:
    case TokenKind::kUnused:
    case TokenKind::kByte:
      break;
  }
  return false;
}

std::vector<TokenId> PromptEncoder::encode(const Rendered& rendered) const {
  const Vocab& vocab = tokenizer_.vocab();
  std::vector<TokenId> ids = encode_rest(rendered, 0);
  if (vocab.add_bos && (ids.empty() || ids.front() != vocab.bos)) ids.insert(ids.begin(), vocab.bos);
  return ids;
}

std::vector<TokenId> PromptEncoder::encode_rest(const Rendered& rendered, size_t begin) const {
  const std::string_view text = std::string_view(rendered.text).substr(begin);
  const Authors authors(rendered);
  return tokenizer_.encode_filtered(text, [&](TokenId id, size_t from, size_t to) {
    if (trust_messages_) return true;
    if (is_structural(id)) return authors.all_of_template(begin + from, begin + to);
    // Across the border between two authors only white space joins: anything else could swallow the first bytes of a
    // token that the template writes.
    return authors.one_author(begin + from, begin + to) || is_blank(text.substr(from, to - from));
  });
}

}  // namespace spate::chat
