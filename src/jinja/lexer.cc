#include <cctype>
#include <charconv>
#include <optional>

#include "base/utf8.h"
#include "jinja/failure.h"
#include "jinja/string_literal.h"
#include "jinja/token.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

// All newlines as "\n", without the last one.
std::string normalized(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      result += source[i];
      continue;
    }
    result += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

bool is_name_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) {
  return is_name_start(c) || std::isdigit(static_cast<unsigned char>(c));
}
bool is_digit_char(char c) {
  return c >= '0' && c <= '9';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_data();
    push(Token::Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool next_is(std::string_view text) const { return rest().starts_with(text); }

  void advance(size_t n) {
    for (size_t i = 0; i < n; ++i) line_ += source_[at_ + i] == '\n';
    at_ += n;
  }
  void skip_space() { advance(skip_leading(rest(), is_space)); }

  Token& push(Token::Kind kind, std::string text = {}) {
    tokens_.push_back({.kind = kind, .line = line_, .text = std::move(text)});
    return tokens_.back();
  }

  // The whitespace-control sign after a tag's opening, consumed; ' ' where there is none.
  char take_sign() {
    const char sign = at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+') ? source_[at_] : ' ';
    if (sign != ' ') advance(1);
    return sign;
  }

  // Plain text up to the next tag, then the tag.
  void lex_data() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        push(Token::Kind::kData, source_.substr(begin));
        at_ = source_.size();
        return;
      }
      const char second = source_[tag + 1];
      if (second == '%' || second == '{' || second == '#') break;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    push_data(begin, tag, sign, kind != '{');
    advance(tag - begin + 2);
    const int tag_line = line_;
    take_sign();
    if (kind == '#') return skip_comment(tag_line);
    if (kind == '%' && lex_raw(tag_line)) return;
    push(kind == '%' ? Token::Kind::kBlockBegin : Token::Kind::kVariableBegin).line = tag_line;
    lex_tag(kind == '%');
  }

  // Text before a tag: `-` takes all whitespace at its end; a block tag without a sign takes what stands before it on
  // its line, if that is nothing but whitespace (lstrip_blocks).
  void push_data(size_t begin, size_t end, char sign, bool is_block) {
    std::string_view text = std::string_view(source_).substr(begin, end - begin);
    if (sign == '-') {
      text = text.substr(0, skip_trailing(text, is_space));
    } else if (sign != '+' && is_block) {
      const size_t newline = text.rfind('\n');
      const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
      const bool at_line_begin = line_begin > 0 || begin == 0 || source_[begin - 1] == '\n';
      if (at_line_begin && skip_leading(text.substr(line_begin), is_space) == text.size() - line_begin)
        text = text.substr(0, line_begin);
    }
    if (!text.empty()) push(Token::Kind::kData, std::string(text));
  }

  // After the end of a tag, `sign` before it: `-` takes all whitespace that follows, nothing the newline (trim_blocks).
  void trim_after_tag(char sign, bool trim_newline) {
    if (sign == '-')
      skip_space();
    else if (sign != '+' && trim_newline && next_is("\n"))
      advance(1);
  }

  void skip_comment(int tag_line) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail_syntax(tag_line, "the comment that begins here has no end: '#}}' is missing");
    const char sign = end > at_ ? source_[end - 1] : ' ';
    advance(end + 2 - at_);
    trim_after_tag(sign, true);
  }

  // `raw %}` or `endraw %}` at `from`, in any whitespace: where it ends, and the sign before its `%}`.
  struct RawTag {
    size_t end;
    char sign;
  };
  std::optional<RawTag> match_raw_tag(size_t from, std::string_view word, std::string_view signs) const {
    std::string_view text = std::string_view(source_).substr(from);
    text.remove_prefix(skip_leading(text, is_space));
    if (!text.starts_with(word)) return std::nullopt;
    text.remove_prefix(word.size());
    text.remove_prefix(skip_leading(text, is_space));
    const char sign = !text.empty() && signs.find(text[0]) != std::string_view::npos ? text[0] : ' ';
    if (sign != ' ') text.remove_prefix(1);
    if (!text.starts_with("%}")) return std::nullopt;
    return RawTag{source_.size() - text.size() + 2, sign};
  }

  // After `{%`: a raw block to its end, if this is one.
  bool lex_raw(int tag_line) {
    const std::optional<RawTag> opening = match_raw_tag(at_, "raw", "-");
    if (!opening) return false;
    advance(opening->end - at_);
    trim_after_tag(opening->sign, /*trim_newline=*/false);
    const size_t begin = at_;
    for (size_t tag = begin;; tag += 2) {
      tag = source_.find("{%", tag);
      if (tag == std::string::npos) fail_syntax(tag_line, "the raw block that begins here has no endraw");
      const char next = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      const char sign = next == '-' || next == '+' ? next : ' ';
      const std::optional<RawTag> closing = match_raw_tag(tag + 2 + (sign != ' '), "endraw", "-+");
      if (!closing) continue;
      push_data(begin, tag, sign, true);
      advance(closing->end - at_);
      trim_after_tag(closing->sign, true);
      return true;
    }
  }

  // The inside of {{ }} or {% %}, with its end. Brackets must balance, and while one is open, `}}` is two of them.
  void lex_tag(bool is_block) {
    std::string open;
    const std::string_view closing = is_block ? "%}" : "}}";
    for (;;) {
      skip_space();
      if (at_ >= source_.size()) fail_syntax(line_, "the template ends within a tag: '{}' is missing", closing);
      if (open.empty() && take_end(is_block, closing)) return;
      lex_token(open);
    }
  }

  bool take_end(bool is_block, std::string_view closing) {
    const char first = source_[at_];
    const char sign = first == '-' || (is_block && first == '+') ? first : ' ';
    if (!rest().substr(sign != ' ').starts_with(closing)) return false;
    push(is_block ? Token::Kind::kBlockEnd : Token::Kind::kVariableEnd);
    advance((sign != ' ') + 2);
    trim_after_tag(sign, is_block);
    return true;
  }

  void lex_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit_char(c)) return lex_number();
    if (is_name_start(c)) return lex_name();
    if (c == '\'' || c == '"') return lex_string(c);
    lex_operator(open);
  }

  void lex_name() {
    size_t end = at_;
    while (end < source_.size() && is_name_part(source_[end])) ++end;
    push(Token::Kind::kName, source_.substr(at_, end - at_));
    at_ = end;
  }

  void lex_string(char quote_character) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote_character) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_syntax(line_, "the string that begins here has no end");
    const std::string_view body = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    push(Token::Kind::kString, unescape_string_literal(body, line_));
    advance(end + 1 - at_);
  }

  // Digits of the base, single underscores between them, from `from`; the end.
  size_t digits_end(size_t from, int base) const {
    const auto is_of_base = [base](char c) {
      const int digit = is_digit_char(c)                               ? c - '0'
                        : std::isxdigit(static_cast<unsigned char>(c)) ? (c | 32) - 'a' + 10
                                                                       : 99;
      return digit < base;
    };
    size_t end = from;
    while (end < source_.size() && (is_of_base(source_[end]) ||
                                    (source_[end] == '_' && end + 1 < source_.size() && is_of_base(source_[end + 1]))))
      ++end;
    return end;
  }

  void lex_number() {
    const char second = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 32) : ' ';
    const int base = source_[at_] != '0' ? 10 : second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 10;
    if (base != 10 && digits_end(at_ + 2, base) > at_ + 2)
      return push_integer(at_ + 2, digits_end(at_ + 2, base), base);

    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1 are two indices
    const size_t whole_end = digits_end(at_, 10);
    size_t end = whole_end;
    if (!after_dot) {
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit_char(source_[end + 1]))
        end = digits_end(end + 1, 10);
      if (end < source_.size() && (source_[end] | 32) == 'e') {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit_char(source_[exponent])) end = digits_end(exponent, 10);
      }
    }
    if (end == whole_end) return push_integer(at_, end, 10);
    push_float(end);
  }

  std::string without_underscores(size_t begin, size_t end) const {
    std::string digits;
    for (const char c : source_.substr(begin, end - begin))
      if (c != '_') digits += c;
    return digits;
  }

  void push_integer(size_t begin, size_t end, int base) {
    const std::string digits = without_underscores(begin, end);
    Token& token = push(Token::Kind::kInteger, digits);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), token.integer, base);
    if (parsed.ec != std::errc()) fail_syntax(line_, "the integer {} does not fit 64 bits", quote(digits));
    at_ = end;
  }

  void push_float(size_t end) {
    const std::string digits = without_underscores(at_, end);
    Token& token = push(Token::Kind::kFloat, digits);
    // Out of range: from_chars leaves the value alone, Python reads infinity or zero.
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), token.real);
    if (parsed.ec != std::errc()) fail_syntax(line_, "the number {} is out of range", quote(digits));
    at_ = end;
  }

  void lex_operator(std::string& open) {
    static constexpr std::string_view kOperators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!next_is(op)) continue;
      balance(op[0], open);
      push(Token::Kind::kOperator, std::string(op));
      at_ += op.size();
      return;
    }
    fail_syntax(line_, "unexpected character {}",
                quote(rest().substr(0, static_cast<size_t>(decode_utf8(rest()).n_bytes))));
  }

  void balance(char bracket, std::string& open) {
    if (bracket == '(') open += ')';
    if (bracket == '[') open += ']';
    if (bracket == '{') open += '}';
    if (bracket != ')' && bracket != ']' && bracket != '}') return;
    if (open.empty()) fail_syntax(line_, "unexpected '{}'", bracket);
    if (open.back() != bracket) fail_syntax(line_, "unexpected '{}', expected '{}'", bracket, open.back());
    open.pop_back();
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::string Token::describe() const {
  switch (kind) {
    case Kind::kData:
      return "text outside of tags";
    case Kind::kVariableBegin:
      return "'{{'";
    case Kind::kVariableEnd:
      return "'}}'";
    case Kind::kBlockBegin:
      return "'{%'";
    case Kind::kBlockEnd:
      return "'%}'";
    case Kind::kEnd:
      return "the end of the template";
    case Kind::kString:
      return "the string " + quote(text, 40);
    default:
      return quote(text, 40);
  }
}

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace spate::jinja
