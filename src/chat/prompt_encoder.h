// From rendered text to token ids. Which tokens a stretch of text may become depends on who wrote it.
#pragma once

#include <string_view>
#include <unordered_set>
#include <vector>

#include "chat/chat_template.h"
#include "text/tokenizer.h"

namespace spate::chat {

class PromptEncoder {
 public:
  // trust_messages: special tokens count wherever they are written, in messages too.
  // tokenizer outlives this.
  PromptEncoder(const Tokenizer& tokenizer, const ChatTemplate& chat_template, bool trust_messages = false);

  // The ids of the text. A token that gives a prompt its structure comes only from bytes that the template wrote, all
  // of them: those of the kinds control and unknown, those that end a generation, and user-defined ones that the
  // template spells. Other user-defined tokens (runs of spaces, say) come from anybody's bytes. Begins with BOS where
  // the vocabulary asks for it, once, also when the template writes it; never ends with an EOS that the template did
  // not write.
  std::vector<TokenId> encode(const Rendered& rendered) const;

  // The same for a part of the text that does not begin it: no BOS is added.
  std::vector<TokenId> encode_rest(const Rendered& rendered, size_t begin) const;

  // Whether only the template may write it.
  bool is_structural(TokenId id) const;
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  void note_written(const Rendered& written);

  const Tokenizer& tokenizer_;
  bool trust_messages_;
  std::unordered_set<TokenId> spelt_;  // user-defined tokens that the template writes
};

}  // namespace spate::chat
