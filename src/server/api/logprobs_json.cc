#include "server/api/logprobs_json.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <iterator>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "server/api/json_text.h"

namespace spate::api {
namespace {

// What OpenAI writes for a token that is next to impossible, and JSON has no infinity.
constexpr float kLeastLogprob = -9999;

void append_logprob(std::string& out, float logprob) {
  append_json_number(out, std::isfinite(logprob) ? std::max(logprob, kLeastLogprob) : kLeastLogprob);
}

std::string logprob_json(float logprob) {
  std::string out;
  append_logprob(out, logprob);
  return out;
}

void append_comma(std::string& list) {
  if (!list.empty()) list += ',';
}

void append_bytes(std::string& out, std::string_view bytes) {
  if (bytes.empty()) {
    out += "null";
    return;
  }
  char separator = '[';
  for (const char byte : bytes) {
    out += separator;
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(byte));
    separator = ',';
  }
  out += ']';
}

// Without the closing brace.
void append_chat_token(std::string& out, TokenId token, float logprob, const ServedModel& model) {
  out += R"({"token":)";
  append_json_text(out, model.token_text(token));
  out += R"(,"logprob":)";
  append_logprob(out, logprob);
  out += R"(,"bytes":)";
  append_bytes(out, model.tokenizer().token_bytes(token));
}

std::string completion_token(TokenId token, const ServedModel& model) {
  const bool is_text = is_valid_utf8(model.tokenizer().token_bytes(token, true));
  return (is_text ? "" : "bytes:") + model.token_text(token);
}

// Two tokens may have the same text; the likelier one keeps it.
std::string top_json(TokenId token, float logprob, std::span<const TokenLogprob> top, const ServedModel& model) {
  std::vector<std::string> names;
  std::string out;
  const auto add = [&](TokenId id, float value) {
    std::string name = json_text(completion_token(id, model));
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    append_comma(out);
    out += name;
    out += ':';
    append_logprob(out, value);
    names.push_back(std::move(name));
  };
  for (const TokenLogprob& entry : top) add(entry.token, entry.logprob);
  add(token, logprob);
  return "{" + out + "}";
}

}  // namespace

void ChatLogprobs::add(std::span<const AlignedToken> tokens, const ServedModel& model) {
  for (const AlignedToken& aligned : tokens) {
    const GeneratedToken& token = aligned.token;
    append_comma(entries_);
    append_chat_token(entries_, token.token, token.logprob, model);
    entries_ += R"(,"top_logprobs":[)";
    for (size_t i = 0; i < token.top.size(); ++i) {
      if (i > 0) entries_ += ',';
      append_chat_token(entries_, token.top[i].token, token.top[i].logprob, model);
      entries_ += '}';
    }
    entries_ += "]}";
  }
}

std::string ChatLogprobs::take_json() {
  return R"({"content":[)" + std::exchange(entries_, {}) + R"(],"refusal":null})";
}

void CompletionLogprobs::add_columns(TokenId token, std::string_view logprob, std::string_view top, size_t begin_chars,
                                     const ServedModel& model) {
  for (std::string* column : {&tokens_, &logprobs_, &top_, &offsets_}) append_comma(*column);
  append_json_text(tokens_, completion_token(token, model));
  logprobs_ += logprob;
  top_ += top;
  offsets_ += std::to_string(begin_chars);
}

void CompletionLogprobs::add(std::span<const AlignedToken> tokens, const ServedModel& model) {
  for (const AlignedToken& aligned : tokens) {
    const GeneratedToken& token = aligned.token;
    add_columns(token.token, logprob_json(token.logprob), top_json(token.token, token.logprob, token.top, model),
                aligned.begin_chars, model);
  }
}

void CompletionLogprobs::add_first(TokenId token, size_t begin_chars, const ServedModel& model) {
  add_columns(token, "null", "null", begin_chars, model);
}

void CompletionLogprobs::add(const PromptToken& token, size_t begin_chars, const ServedModel& model) {
  add_columns(token.token, logprob_json(token.logprob), top_json(token.token, token.logprob, token.top, model),
              begin_chars, model);
}

std::string CompletionLogprobs::take_json() {
  return fmt::format(R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":[{}],"text_offset":[{}]}})",
                     std::exchange(tokens_, {}), std::exchange(logprobs_, {}), std::exchange(top_, {}),
                     std::exchange(offsets_, {}));
}

}  // namespace spate::api
