#include "server/api/token_aligner.h"

#include <algorithm>

namespace spate::api {

size_t count_codepoints(std::string_view text) {
  const auto begins_one = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; };
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), begins_one));
}

std::vector<AlignedToken> TokenAligner::add(const OutputDelta& delta) {
  for (const GeneratedToken& token : delta.tokens) {
    const std::string text = decoder_.push(token.token);
    pending_.push_back({{token, n_chars_}, n_bytes_, n_bytes_ + text.size()});
    n_bytes_ += text.size();
    n_chars_ += count_codepoints(text);
  }
  n_delivered_bytes_ += delta.text.size();
  const bool ended = delta.finish.has_value();
  if (ended && delta.finish->end_token && !pending_.empty()) pending_.pop_back();
  const bool by_string = ended && delta.finish->stop_string;
  std::vector<AlignedToken> released;
  while (!pending_.empty()) {
    const Pending& next = pending_.front();
    const bool shown =
        by_string ? next.begin_bytes < n_delivered_bytes_ : ended || next.end_bytes <= n_delivered_bytes_;
    if (!shown) break;
    released.push_back(std::move(pending_.front().token));
    pending_.pop_front();
  }
  return released;
}

}  // namespace spate::api
