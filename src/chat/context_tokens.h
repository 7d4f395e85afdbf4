// The tokens of a conversation from turn to turn.
//
// The text that a model wrote, cut into tokens again, may give other tokens than those that it drew, and then the keys
// that were computed for them are of no use from there on. So the drawn tokens stand for themselves as long as the
// rendering still holds the same text in the same place.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "chat/prompt_encoder.h"

namespace spate::chat {

class ContextTokens {
 public:
  // encoder outlives this.
  explicit ContextTokens(const PromptEncoder& encoder) : encoder_(encoder) {}

  // The prompt of the next turn.
  std::vector<TokenId> encode(const Rendered& rendered) const;

  // A turn was run: on `rendered`, as `prompt`, the model drew `drawn`, which reads `answer`. Without the token that
  // ended it, if one did. An answer that holds structural tokens of its own is not kept.
  void note_turn(const Rendered& rendered, std::vector<TokenId> prompt, std::span<const TokenId> drawn,
                 std::string_view answer);

 private:
  const PromptEncoder& encoder_;
  Rendered known_;               // rendered and answer
  std::vector<TokenId> tokens_;  // of it, as they ran; empty: nothing is known
};

}  // namespace spate::chat
