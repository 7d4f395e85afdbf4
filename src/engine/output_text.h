// The text of one request as its tokens come: the tokenizer's incremental decoder, then the stop strings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/stop_matcher.h"
#include "text/tokenizer.h"

namespace spate {

class OutputText {
 public:
  // tokenizer: may be null, then there is no text; otherwise it outlives this.
  OutputText(const Tokenizer* tokenizer, std::vector<std::string> stop_strings) : stop_(std::move(stop_strings)) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  }

  // The text that the token makes certain.
  std::string push(int32_t token) { return decoder_ ? stop_.push(decoder_->push(token)) : std::string(); }

  // What was held back: a character cut short comes as U+FFFD.
  std::string finish() {
    std::string text = decoder_ ? stop_.push(decoder_->finish()) : std::string();
    return stop_.found() ? text : text + stop_.finish();
  }

  // The stop string that ended the text.
  const std::optional<std::string>& stop_string() const { return stop_.found(); }

 private:
  std::optional<StreamDecoder> decoder_;
  StopMatcher stop_;
};

}  // namespace spate
