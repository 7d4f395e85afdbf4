// Which tokens the text that a client has been given is made of. The engine tells of tokens as they are drawn, but
// holds text back that may become a stop string; log-probabilities must not give away what the text does not.
#pragma once

#include <deque>
#include <vector>

#include "engine/request.h"
#include "text/tokenizer.h"

namespace spate::api {

struct AlignedToken {
  GeneratedToken token;
  size_t begin_chars = 0;  // where its text begins in the answer's, in code points
};

class TokenAligner {
 public:
  // tokenizer outlives this. offset_chars: of the text before the answer, that the offsets count too.
  TokenAligner(const Tokenizer& tokenizer, size_t offset_chars) : decoder_(tokenizer), n_chars_(offset_chars) {}

  // The tokens whose text is part of what has been delivered up to this delta, and not in an earlier one's. A token
  // that ended the text is never among them, nor are those that only a stop string was made of.
  std::vector<AlignedToken> add(const OutputDelta& delta);

 private:
  struct Pending {
    AlignedToken token;
    size_t begin_bytes, end_bytes;  // in the answer's text
  };

  StreamDecoder decoder_;  // as the engine has one: the same tokens give the same text
  std::deque<Pending> pending_;
  size_t n_bytes_ = 0, n_chars_ = 0;  // of the text of all tokens drawn
  size_t n_delivered_bytes_ = 0;
};

// Characters of a text in UTF-8.
size_t count_codepoints(std::string_view text);

}  // namespace spate::api
