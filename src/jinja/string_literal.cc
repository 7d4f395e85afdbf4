#include "jinja/string_literal.h"

#include <charconv>
#include <optional>

#include "base/utf8.h"
#include "jinja/failure.h"

namespace spate::jinja {
namespace {

class Unescaper {
 public:
  Unescaper(std::string_view body, int line) : body_(body), line_(line) {}

  std::string run() {
    while (at_ < body_.size()) {
      if (body_[at_] == '\\' && at_ + 1 < body_.size())
        escape();
      else
        out_ += body_[at_++];
    }
    return std::move(out_);
  }

 private:
  void escape() {
    const char kind = body_[at_ + 1];
    static constexpr std::string_view kKinds = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t simple = kKinds.find(kind); simple != std::string_view::npos) {
      out_ += kMeanings[simple];
      at_ += 2;
    } else if (kind == '\n') {  // a line continued
      at_ += 2;
    } else if (kind >= '0' && kind <= '7') {
      octal();
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      hexadecimal(kind == 'x' ? 2 : kind == 'u' ? 4 : 8);
    } else if (kind == 'N') {
      fail_syntax(line_, "\\N escapes, characters by name, are not supported: use \\u and the code point");
    } else {
      out_ += body_.substr(at_, 2);
      at_ += 2;
    }
  }

  void octal() {
    size_t end = at_ + 1;
    while (end < body_.size() && end < at_ + 4 && body_[end] >= '0' && body_[end] <= '7') ++end;
    append(*parse(at_ + 1, end, 8));
    at_ = end;
  }

  void hexadecimal(size_t n_digits) {
    const size_t begin = at_ + 2;
    std::optional<uint32_t> codepoint;
    if (begin + n_digits <= body_.size()) codepoint = parse(begin, begin + n_digits, 16);
    if (!codepoint) fail_syntax(line_, "truncated \\{} escape in a string", body_[at_ + 1]);
    append(*codepoint);
    at_ = begin + n_digits;
  }

  std::optional<uint32_t> parse(size_t begin, size_t end, int base) const {
    uint32_t value = 0;
    const auto result = std::from_chars(body_.data() + begin, body_.data() + end, value, base);
    if (result.ec != std::errc() || result.ptr != body_.data() + end) return std::nullopt;
    return value;
  }

  void append(uint32_t codepoint) {
    if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint < 0xE000))
      fail_syntax(line_, "an escape in a string names U+{:04X}, which is no character", codepoint);
    append_utf8(out_, codepoint);
  }

  const std::string_view body_;
  const int line_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string unescape_string_literal(std::string_view body, int line) {
  return Unescaper(body, line).run();
}

}  // namespace spate::jinja
