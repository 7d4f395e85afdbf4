// str.format.
#include <algorithm>

#include "base/utf8.h"
#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace spate::jinja {
namespace {

class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, const Arguments& values)
      : interpreter_(interpreter), heap_(interpreter.heap()), values_(values) {}

  Text run(const Text& pattern, int depth = 0) {
    if (depth > 2) fail("a format is nested too deeply");
    const std::string_view bytes = pattern.bytes();
    TextBuilder out(heap_);
    for (size_t at = 0; at < bytes.size();) {
      const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
      out.append(pattern, at, brace);
      if (brace == bytes.size()) break;
      if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {  // {{ or }}
        out.append(pattern, brace, brace + 1);
        at = brace + 2;
        continue;
      }
      if (bytes[brace] == '}') fail("a single '}}' in a format: write '}}}}' for the character");
      const size_t end = field_end(bytes, brace + 1);
      out.append(field(pattern.slice(brace + 1, end), depth));
      at = end + 1;
    }
    return out.finish();
  }

 private:
  static size_t field_end(std::string_view bytes, size_t at) {
    int open = 1;
    for (; at < bytes.size(); ++at) {
      open += bytes[at] == '{' ? 1 : bytes[at] == '}' ? -1 : 0;
      if (open == 0) return at;
    }
    fail("a '{{' in a format has no end");
  }

  // name!conversion:specification
  Text field(const Text& text, int depth) {
    const std::string_view bytes = text.bytes();
    size_t name_end = 0;
    for (int open = 0; name_end < bytes.size(); ++name_end) {  // a subscript may hold anything but ]
      const char c = bytes[name_end];
      open += c == '[' ? 1 : c == ']' ? -1 : 0;
      if (open <= 0 && (c == '!' || c == ':')) break;
    }
    Value value = look_up(text.slice(0, name_end));
    size_t at = name_end;
    if (at < bytes.size() && bytes[at] == '!') {
      const char kind = at + 1 < bytes.size() ? bytes[at + 1] : ' ';
      if (kind != 's' && kind != 'r' && kind != 'a') fail("a conversion in a format must be !s, !r or !a");
      value = kind == 's' ? to_text(heap_, value) : to_repr(heap_, value);
      at += 2;
      if (at < bytes.size() && bytes[at] != ':') fail("a ':' must follow the conversion in a format");
    }
    const Text spec = at < bytes.size() ? run(text.slice(at + 1, bytes.size()), depth + 1) : Text();
    return format_value(heap_, value, parse_format_spec(spec));
  }

  Value look_up(const Text& path) {
    const std::string_view bytes = path.bytes();
    size_t at = std::min(bytes.find_first_of(".["), bytes.size());
    Value value = first_value(bytes.substr(0, at));
    while (at < bytes.size()) {
      const bool is_attribute = bytes[at] == '.';
      const size_t begin = at + 1;
      const size_t end =
          is_attribute ? std::min(bytes.find_first_of(".[", begin), bytes.size()) : bytes.find(']', begin);
      if (end == std::string_view::npos) fail("a '[' in a format has no end");
      if (end == begin) fail("an empty attribute in a format");
      const Text part = path.slice(begin, end);
      const std::optional<int64_t> index = as_index(part.bytes());
      if (is_attribute)
        value = get_attribute(interpreter_, value, part);
      else
        value = get_item(interpreter_, value, index ? Value(*index) : Value(part));
      at = is_attribute ? end : end + 1;
      if (!is_attribute && at < bytes.size() && bytes[at] != '.' && bytes[at] != '[')
        fail("only '.' or '[' may follow ']' in a format");
    }
    return value;
  }

  static std::optional<int64_t> as_index(std::string_view text) {
    if (text.empty() || text.size() > 9) return std::nullopt;
    int64_t index = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      index = index * 10 + (c - '0');
    }
    return index;
  }

  Value first_value(std::string_view name) {
    const std::optional<int64_t> index = as_index(name);
    if (name.empty() || index) {
      bool& used = name.empty() ? counts_ : numbers_;
      used = true;
      if (counts_ && numbers_) fail("a format cannot mix numbered fields with fields that count");
      const size_t i = index ? static_cast<size_t>(*index) : n_used_++;
      if (i >= values_.positional.size()) fail("a format needs at least {} positional arguments", i + 1);
      return values_.positional[i];
    }
    for (const auto& [key, value] : values_.named) {
      heap_.step();
      if (key.bytes() == name) return value;
    }
    fail("a format has no argument named {}", quote(name));
  }

  Interpreter& interpreter_;
  Heap& heap_;
  const Arguments& values_;
  size_t n_used_ = 0;
  bool counts_ = false, numbers_ = false;
};

}  // namespace

Text brace_format(Interpreter& interpreter, const Text& pattern, const Arguments& values) {
  return BraceFormatter(interpreter, values).run(pattern);
}

}  // namespace spate::jinja
