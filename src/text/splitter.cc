#include "text/splitter.h"

#include <utf8proc.h>

#include "base/check.h"
#include "base/utf8.h"

namespace spate {

namespace {

// Whether a word that a digit belongs to goes on with c: \w without the digits themselves.
bool continues_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

// Ends a piece at `end`, unless one ends there already.
void cut(std::vector<size_t>& ends, size_t begin_of_text, size_t end) {
  if (end > (ends.empty() ? begin_of_text : ends.back())) ends.push_back(end);
}

}  // namespace

Splitter::Splitter(const PreTokenizer& row) {
  for (const SplitStep& step : row.steps) {
    if (step.pattern.empty()) break;
    Result<Pattern> pattern = Pattern::compile(step.pattern);
    SPATE_CHECK(pattern.ok(), "pre-tokenizer {}: {}", row.names, pattern.error().message);
    if (step.kind == SplitStep::Kind::kPattern) {
      steps_.push_back({step.kind, {std::move(*pattern)}, {}});
    } else {
      const auto digits = CodepointSet::property(step.pattern == R"(\d)" ? "Nd" : "N");
      steps_.push_back({step.kind, {}, *digits});
    }
  }
}

std::vector<std::string_view> Splitter::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  Text codepoints;
  std::vector<size_t> offsets;  // [codepoints + 1], in bytes
  codepoints.reserve(text.size());
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const DecodedUtf8 c = byte < 0x80 ? DecodedUtf8{byte, 1, true} : decode_utf8(text.substr(at));
    codepoints.push_back(c.codepoint);
    offsets.push_back(at);
    at += c.n_bytes;
  }
  offsets.push_back(text.size());

  Ends ends = {codepoints.size()};
  for (const Step& step : steps_) ends = apply(step, codepoints, ends);
  pieces.reserve(ends.size());
  size_t begin = 0;
  for (const size_t end : ends) {
    pieces.push_back(text.substr(offsets[begin], offsets[end] - offsets[begin]));
    begin = end;
  }
  return pieces;
}

Splitter::Ends Splitter::apply(const Step& step, const Text& text, const Ends& pieces) {
  Ends out;
  out.reserve(pieces.size() * 2);
  Pattern::Trail trail;
  size_t begin = 0;
  for (const size_t end : pieces) {
    if (step.kind == SplitStep::Kind::kPattern)
      cut_matches(step.pattern[0], text, begin, end, trail, out);
    else
      cut_thousands(step, text, begin, end, out);
    cut(out, begin, end);
    begin = end;
  }
  return out;
}

void Splitter::cut_matches(const Pattern& pattern, const Text& text, size_t begin, size_t end, Pattern::Trail& trail,
                           Ends& out) {
  for (size_t at = begin; at < end;) {
    const size_t match_end = pattern.match(text, at, end, trail);
    if (match_end == at) {
      ++at;
      continue;
    }
    cut(out, begin, at);
    cut(out, begin, match_end);
    at = match_end;
  }
}

void Splitter::cut_thousands(const Step& step, const Text& text, size_t begin, size_t end, Ends& out) {
  for (size_t at = begin; at < end; ++at) {
    if (!step.digits.contains(text[at])) continue;
    size_t run_end = at + 1;
    while (run_end < end && step.digits.contains(text[run_end])) ++run_end;
    const bool in_word = run_end < end && continues_word(text[run_end]);
    if (step.kind != SplitStep::Kind::kThousandsOfWord || !in_word) {
      const bool isolate = step.kind != SplitStep::Kind::kThousandsInside;
      if (isolate) cut(out, begin, at);
      for (size_t group = at + (run_end - at) % 3; group < run_end; group += 3) cut(out, begin, group);
      if (isolate) cut(out, begin, run_end);
    }
    at = run_end - 1;
  }
}

}  // namespace spate
