// printf-style formatting as Python has it.
#include <algorithm>

#include "base/utf8.h"
#include "jinja/format.h"
#include "jinja/operators.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const Text& pattern, const Value& values)
      : heap_(heap), pattern_(pattern), bytes_(pattern.bytes()), values_(values), out_(heap) {
    const List* list = values.list();
    tuple_ = list && list->kind() == List::Kind::kTuple ? list : nullptr;
  }

  Text run() {
    while (at_ < bytes_.size()) {
      const size_t percent = std::min(bytes_.find('%', at_), bytes_.size());
      out_.append(pattern_, at_, percent);
      at_ = percent + 1;
      if (percent < bytes_.size()) conversion(percent);
    }
    const bool all_used =
        by_name_ || values_.dict() || n_used_ >= (tuple_ ? tuple_->size() : 1) || (!tuple_ && values_.list());
    if (!all_used) fail("not all arguments were converted in a string's % formatting");
    return out_.finish();
  }

 private:
  char peek() const {
    if (at_ >= bytes_.size()) fail("incomplete conversion at the end of a % format");
    return bytes_[at_];
  }

  const Value& next_value() {
    if (tuple_ ? n_used_ >= tuple_->size() : n_used_ >= 1) fail("not enough arguments for a % format");
    const size_t i = n_used_++;
    return tuple_ ? (*tuple_)[i] : values_;
  }

  const Value& named_value() {
    const size_t end = bytes_.find(')', at_);
    if (end == std::string_view::npos) fail("incomplete name in a % format");
    const Dict* dict = values_.dict();
    if (!dict) fail("a % format with names needs a mapping");
    const std::string_view name = bytes_.substr(at_, end - at_);
    const Value* value = dict->find(name);
    if (!value) fail("the mapping of a % format has no key {}", quote(name));
    at_ = end + 1;
    by_name_ = true;
    return *value;
  }

  int64_t star_or_number() {
    if (peek() == '*') {
      ++at_;
      const Value& value = next_value();
      if (!value.integer()) fail("* in a % format needs an integer");
      return *value.integer();
    }
    int64_t number = 0;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_)
      number = std::min<int64_t>(number * 10 + (bytes_[at_] - '0'), int64_t{1} << 40);
    return number;
  }

  void conversion(size_t percent) {
    const Value* value = nullptr;
    if (peek() == '(') {
      ++at_;
      value = &named_value();
    }
    FormatSpec spec;
    bool zero = false;
    for (;; ++at_) {
      const char flag = peek();
      if (flag == '-')
        spec.align = '<';
      else if (flag == '+')
        spec.sign = '+';
      else if (flag == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else if (flag == '#')
        spec.alternate = true;
      else if (flag == '0')
        zero = true;
      else
        break;
    }
    spec.width = star_or_number();
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = -std::max<int64_t>(spec.width, -(int64_t{1} << 40));
    }
    if (peek() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(0, star_or_number());
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    const char type = peek();
    ++at_;
    if (type == '%') return out_.append("%", pattern_.origin(percent, at_));
    if (!value) value = &next_value();
    if (spec.align == 0) spec.align = '>';
    convert(type, *value, spec, zero && spec.align == '>');
  }

  void convert(char type, const Value& value, FormatSpec& spec, bool zero) {
    switch (type) {
      case 's':
        return append_padded(to_text(heap_, value), spec);
      case 'r':
      case 'a':
        return append_padded(to_repr(heap_, value), spec);
      case 'c':
        return append_padded(character(value), spec);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return integer(type, value, spec, zero);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        break;
      default:
        fail("unsupported conversion '%{}' in a % format", is_ascii({&type, 1}) ? type : '?');
    }
    if (value.is_undefined()) value.fail_undefined();
    if (!value.number()) fail("'%{}' needs a number, not '{}'", type, value.type_name());
    set_zero(spec, zero);
    spec.type = type;
    out_.append(format_value(heap_, *value.number(), spec));
  }

  static void set_zero(FormatSpec& spec, bool zero) {
    if (!zero) return;
    spec.fill = "0";
    spec.align = '=';
  }

  void integer(char type, const Value& value, FormatSpec& spec, bool zero) {
    if (value.is_undefined()) value.fail_undefined();
    const bool decimal = type == 'd' || type == 'i' || type == 'u';
    std::optional<int64_t> number = value.integer();
    if (!number && decimal && value.real() && *value.real() > -0x1p63 && *value.real() < 0x1p63)
      number = static_cast<int64_t>(*value.real());
    if (!number) fail("'%{}' needs an integer, not '{}'", type, value.type_name());
    const int64_t n_digits = std::exchange(spec.precision, -1);
    set_zero(spec, zero && n_digits < 0);
    spec.type = decimal ? 'd' : type;
    if (n_digits < 0) return out_.append(format_value(heap_, *number, spec));
    // A precision is the least number of digits.
    FormatSpec digits = spec;
    digits.fill = "0";
    digits.align = '=';
    digits.width = n_digits + (*number < 0 || digits.sign != '-' ? 1 : 0);
    append_padded(format_value(heap_, *number, digits), spec);
  }

  Text character(const Value& value) {
    if (const Text* text = value.text(); text && count_characters(heap_, text->bytes()) == 1) return *text;
    if (!value.is_integer()) fail("'%c' needs a character or its code point");
    const int64_t code = *value.integer();
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      fail("'%c' of {}, which is no character", code);
    std::string utf8;
    append_utf8(utf8, static_cast<char32_t>(code));
    return Text(utf8, Origin::kRequest);
  }

  void append_padded(const Text& text, const FormatSpec& spec) {
    Text shown = text;
    if (spec.precision >= 0)
      shown = text.slice(0, character_offset(heap_, text.bytes(), static_cast<size_t>(spec.precision)));
    out_.append(justify(heap_, shown, spec.width, Text(" ", Origin::kTemplate), spec.align == '<' ? kLeft : kRight));
  }

  Heap& heap_;
  const Text& pattern_;
  const std::string_view bytes_;
  const Value& values_;
  const List* tuple_ = nullptr;
  TextBuilder out_;
  size_t at_ = 0, n_used_ = 0;
  bool by_name_ = false;
};

}  // namespace

Text percent_format(Heap& heap, const Text& pattern, const Value& values) {
  return PercentFormatter(heap, pattern, values).run();
}

}  // namespace spate::jinja
