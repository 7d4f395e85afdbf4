#include "chat/context_tokens.h"

#include <algorithm>

namespace spate::chat {
namespace {

// Runs of the first n_bytes.
std::vector<jinja::Run> runs_of_prefix(const std::vector<jinja::Run>& runs, size_t n_bytes) {
  std::vector<jinja::Run> prefix;
  for (const jinja::Run& run : runs) {
    if (n_bytes == 0) break;
    prefix.push_back({std::min(run.end, n_bytes), run.origin});
    if (run.end >= n_bytes) break;
  }
  return prefix;
}

void append_run(std::vector<jinja::Run>& runs, size_t end, jinja::Origin origin) {
  if (!runs.empty() && runs.back().origin == origin)
    runs.back().end = end;
  else
    runs.push_back({end, origin});
}

}  // namespace

std::vector<TokenId> ContextTokens::encode(const Rendered& rendered) const {
  const size_t n_known = known_.text.size();
  // The same text by the same authors: a message that spells out what the template wrote before must not become it.
  const bool continues = !tokens_.empty() && rendered.text.starts_with(known_.text) &&
                         runs_of_prefix(rendered.runs, n_known) == known_.runs;
  if (!continues) return encoder_.encode(rendered);
  const std::vector<TokenId> rest = encoder_.encode_rest(rendered, n_known);
  // Plain text behind the answer could merge with it.
  if (rest.empty() || !encoder_.is_structural(rest.front())) return encoder_.encode(rendered);
  std::vector<TokenId> ids = tokens_;
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

void ContextTokens::note_turn(const Rendered& rendered, std::vector<TokenId> prompt, std::span<const TokenId> drawn,
                              std::string_view answer) {
  tokens_.clear();
  if (answer.empty() || std::any_of(drawn.begin(), drawn.end(), [&](TokenId id) { return encoder_.is_structural(id); }))
    return;
  known_ = rendered;
  known_.text += answer;
  append_run(known_.runs, known_.text.size(), jinja::Origin::kRequest);
  tokens_ = std::move(prompt);
  tokens_.insert(tokens_.end(), drawn.begin(), drawn.end());
}

}  // namespace spate::chat
