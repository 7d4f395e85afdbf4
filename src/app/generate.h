// One request, run to its end on an engine by the calling thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"

namespace spate::app {

struct Generation {
  std::vector<PromptToken> prompt;     // with Request::prompt_logprobs: the prompt's tokens from the second
  std::vector<GeneratedToken> tokens;  // every token drawn, the one that ended the text too
  std::string text;
  Finish finish;
  double prompt_seconds = 0;  // from the start to the first token (to the end, where none was drawn)
  double decode_seconds = 0;  // from the first token to the last

  // Tokens a second, 0 where no time has passed: of a prompt of which n_tokens ran; of the tokens after the first,
  // which the prompt's last step draws.
  double prompt_rate(size_t n_tokens) const;
  double decode_rate() const;
};

// Text is handed to `on_text` as it comes, in whole characters. Once `cancelled` says so, the request ends with what
// there is, FinishReason::kCancelled. Error: the request was refused, or the executor failed.
Result<Generation> generate(Engine& engine, Request request, const std::function<void(std::string_view)>& on_text,
                            const std::function<bool()>& cancelled);

}  // namespace spate::app
