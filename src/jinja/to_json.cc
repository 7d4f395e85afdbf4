#include "jinja/to_json.h"

#include <algorithm>
#include <cmath>

#include "base/json_escape.h"
#include "jinja/operators.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style), out_(heap) {}

  Text run(const Value& value) {
    write(value, 0);
    return out_.finish();
  }

 private:
  void write(const Value& value, int64_t level) {
    const DepthGuard guard(heap_);
    heap_.step();
    if (const Text* text = value.text()) return write_text(*text);
    if (const Dict* dict = value.dict()) return write_dict(*dict, level);
    if (const List* list = value.list();
        list && (list->kind() == List::Kind::kList || list->kind() == List::Kind::kTuple))
      return write_list(*list, level);
    if (!value.is_number() && !value.is_none()) {
      if (value.is_undefined()) value.fail_undefined();
      fail("an object of type '{}' has no JSON form", value.type_name());
    }
    out_.append(scalar(value), kMade);
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* boolean = value.boolean()) return *boolean ? "true" : "false";
    if (const std::optional<int64_t> integer = value.integer()) return std::to_string(*integer);
    if (std::isnan(*value.real())) return "NaN";
    if (std::isinf(*value.real())) return *value.real() < 0 ? "-Infinity" : "Infinity";
    return float_repr(*value.real());
  }

  void write_text(const Text& text) {
    out_.append("\"", kMade);
    const std::string_view bytes = text.bytes();
    size_t plain = 0;  // where the characters that need no escape begin
    for_each_character(heap_, bytes, [&](const Character& character) {
      const char32_t c = character.codepoint;
      if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || !style_.ensure_ascii)) return;
      out_.append(text, plain, character.offset);
      plain = character.offset + character.bytes.size();
      out_.append(escape(c), text.origin(character.offset, plain));
    });
    out_.append(text, plain, bytes.size());
    out_.append("\"", kMade);
  }

  static std::string escape(char32_t c) {
    if (const std::string_view brief = json_short_escape(c); !brief.empty()) return std::string(brief);
    const uint32_t code = c;
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
  }

  void begin_item(bool is_first, int64_t level) {
    if (!is_first) out_.append(style_.item_separator);
    begin_line(level);
  }

  void begin_line(int64_t level) {
    if (!style_.indent) return;
    out_.append("\n", kMade);
    out_.append_repeated(*style_.indent, level);
  }

  void write_list(const List& list, int64_t level) {
    out_.append("[", kMade);
    for (size_t i = 0; i < list.size(); ++i) {
      begin_item(i == 0, level + 1);
      write(list[i], level + 1);
    }
    if (list.size() > 0) begin_line(level);
    out_.append("]", kMade);
  }

  void write_dict(const Dict& dict, int64_t level) {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [this](const Dict::Entry* a, const Dict::Entry* b) {
        return compare(heap_, a->key, b->key, "<") < 0;
      });
    out_.append("{", kMade);
    for (size_t i = 0; i < entries.size(); ++i) {
      begin_item(i == 0, level + 1);
      write_key(entries[i]->key);
      out_.append(style_.key_separator);
      write(entries[i]->value, level + 1);
    }
    if (!entries.empty()) begin_line(level);
    out_.append("}", kMade);
  }

  void write_key(const Value& key) {
    if (const Text* text = key.text()) return write_text(*text);
    if (!key.is_number() && !key.is_none())
      fail("a key of a JSON object must be a string, a number, a boolean or none, not '{}'", key.type_name());
    out_.append("\"" + scalar(key) + "\"", kMade);
  }

  Heap& heap_;
  const JsonStyle& style_;
  TextBuilder out_;
};

}  // namespace

JsonStyle json_style(const BoundArguments& arguments) {
  JsonStyle style{.ensure_ascii = arguments.flag(0, false), .indent = {}, .sort_keys = arguments.flag(3, false)};
  if (const Text* indent = arguments[1].text()) {
    style.indent = *indent;
  } else if (const std::optional<int64_t> width = arguments.optional_integer(1)) {
    constexpr int64_t kMaxIndent = 1000;
    style.indent = Text(std::string(static_cast<size_t>(std::clamp<int64_t>(*width, 0, kMaxIndent)), ' '), kMade);
  }
  // Python's default: a blank after the comma only where no newline follows.
  if (style.indent) style.item_separator = Text(",", kMade);
  if (arguments[2].is_none()) return style;
  const List* separators = arguments[2].list();
  if (!separators || separators->size() != 2 || !(*separators)[0].text() || !(*separators)[1].text())
    fail("the separators of 'tojson' must be a pair of strings");
  style.item_separator = *(*separators)[0].text();
  style.key_separator = *(*separators)[1].text();
  return style;
}

Text to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  return JsonWriter(heap, style).run(value);
}

}  // namespace spate::jinja
