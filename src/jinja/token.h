// What the lexer hands the parser.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jinja/limits.h"

namespace spate::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,           // plain text of the template
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,   // text: without quotes, escapes resolved
    kInteger,  // integer
    kFloat,    // real
    kOperator,
    kEnd,  // of the source
  };
  Kind kind = Kind::kEnd;
  int line = 0;
  std::string text;
  int64_t integer = 0;
  double real = 0;

  bool is_operator(std::string_view op) const { return kind == Kind::kOperator && text == op; }
  bool is_name(std::string_view name) const { return kind == Kind::kName && text == name; }
  // As an error message may show it.
  std::string describe() const;
};

// The template's tokens, kEnd last, with whitespace control (trim_blocks, lstrip_blocks, and the signs at the tags)
// applied, comments gone, and newlines made "\n". Throws Failure.
std::vector<Token> tokenize(std::string_view source);

}  // namespace spate::jinja
