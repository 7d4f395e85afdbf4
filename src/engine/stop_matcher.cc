#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace spate {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) {
  for (std::string& text : stop_strings) {
    SPATE_CHECK(!text.empty());
    std::vector<size_t> failure(text.size(), 0);
    for (size_t i = 1, k = 0; i < text.size(); ++i) {
      while (k > 0 && text[i] != text[k]) k = failure[k - 1];
      if (text[i] == text[k]) ++k;
      failure[i] = k;
    }
    automata_.push_back({std::move(text), std::move(failure), 0});
  }
}

bool StopMatcher::Automaton::advance(char c) {
  while (n_matched > 0 && text[n_matched] != c) n_matched = failure[n_matched - 1];
  if (text[n_matched] == c) ++n_matched;
  return n_matched == text.size();  // the first match ends the stream, so there is never a step from here
}

std::string StopMatcher::push(std::string_view piece) {
  if (found_) return {};
  size_t n_held = 0;
  for (const char c : piece) {
    held_ += c;
    n_held = 0;
    const Automaton* match = nullptr;
    for (Automaton& automaton : automata_) {
      if (automaton.advance(c) && (match == nullptr || automaton.text.size() > match->text.size())) match = &automaton;
      n_held = std::max(n_held, automaton.n_matched);
    }
    if (match != nullptr) {
      found_ = match->text;
      held_.resize(held_.size() - match->text.size());
      return std::exchange(held_, {});
    }
  }
  if (piece.empty()) return {};
  std::string certain = held_.substr(0, held_.size() - n_held);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace spate
