// Attributes, items and slices.
#include <algorithm>

#include "base/utf8.h"
#include "jinja/builtins.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

Value missing_attribute(const Value& object, std::string_view name) {
  if (object.is_none()) return Value::undefined(fmt::format("'None' has no attribute {}", quote(name)));
  return Value::undefined(fmt::format("'{} object' has no attribute {}", object.type_name(), quote(name)));
}

// What getattr() finds; nothing for names that begin with an underscore, which lead into Python's machinery there.
std::optional<Value> find_attribute(Interpreter& interpreter, const Value& object, std::string_view name) {
  if (object.is_undefined()) object.fail_undefined();
  if (Object* o = object.object()) return o->attribute(interpreter, name);
  if (const List* list = object.list(); list && list->is_group && list->size() == 2) {
    if (name == "grouper") return (*list)[0];
    if (name == "list") return (*list)[1];
  }
  return find_method(object, name);
}

std::optional<int64_t> normal_index(int64_t index, size_t size) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || index >= static_cast<int64_t>(size)) return std::nullopt;
  return index;
}

bool is_subscriptable(const List& list) {
  return list.kind() == List::Kind::kList || list.kind() == List::Kind::kTuple || list.kind() == List::Kind::kRange;
}

bool is_hashable(const Value& value) {
  if (const List* list = value.list()) {
    if (list->kind() != List::Kind::kTuple) return false;
    return std::all_of(list->items().begin(), list->items().end(), [](const Value& item) { return !item.list(); });
  }
  return !value.dict();
}

std::optional<Value> find_item(Heap& heap, const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    const Value* value = is_hashable(key) ? dict->find(heap, key) : nullptr;
    return value ? std::optional<Value>(*value) : std::nullopt;
  }
  if (!key.integer()) return std::nullopt;
  if (const Text* text = object.text()) {
    const std::string_view bytes = text->bytes();
    const std::optional<int64_t> index = normal_index(*key.integer(), count_characters(heap, bytes));
    if (!index) return std::nullopt;
    const size_t begin = character_offset(heap, bytes, static_cast<size_t>(*index));
    return text->slice(begin, begin + character_offset(heap, bytes.substr(begin), 1));
  }
  const List* list = object.list();
  if (!list || !is_subscriptable(*list)) return std::nullopt;
  const std::optional<int64_t> index = normal_index(*key.integer(), list->size());
  return index ? std::optional<Value>((*list)[static_cast<size_t>(*index)]) : std::nullopt;
}

// Python's slice.indices(): which items of `size` a slice visits.
struct SliceRange {
  int64_t begin, step, n;
};

bool is_slice_part(const Value& value) {
  return value.is_none() || value.integer();
}

SliceRange slice_range(const Value& begin, const Value& end, const Value& step_value, int64_t size) {
  const int64_t step = step_value.integer().value_or(1);
  if (step == 0) fail("the step of a slice cannot be zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto clamp = [&](const Value& part, int64_t absent) {
    const std::optional<int64_t> index = part.integer();
    if (!index) return absent;
    return std::clamp(*index < 0 ? *index + size : *index, low, high);
  };
  const int64_t first = clamp(begin, step > 0 ? low : high), last = clamp(end, step > 0 ? high : low);
  // In unsigned arithmetic, as the step may be as large as any integer.
  const uint64_t distance = step > 0 ? static_cast<uint64_t>(last - first) : static_cast<uint64_t>(first - last);
  const uint64_t magnitude = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
  const bool is_empty = step > 0 ? first >= last : first <= last;
  return {first, step, is_empty ? 0 : static_cast<int64_t>((distance - 1) / magnitude + 1)};
}

Value slice_text(Heap& heap, const Text& text, const SliceRange& range) {
  const std::string_view bytes = text.bytes();
  if (range.step == 1) {
    const size_t begin = character_offset(heap, bytes, static_cast<size_t>(range.begin));
    return text.slice(begin, begin + character_offset(heap, bytes.substr(begin), static_cast<size_t>(range.n)));
  }
  std::vector<size_t> offsets;
  MemoryCharge charge(&heap);
  charge.grow((bytes.size() + 1) * sizeof(size_t));
  for_each_character(heap, bytes, [&](const Character& character) { offsets.push_back(character.offset); });
  offsets.push_back(bytes.size());
  TextBuilder out(heap);
  for (int64_t i = 0, at = range.begin; i < range.n; ++i, at += i < range.n ? range.step : 0)
    out.append(text, offsets[static_cast<size_t>(at)], offsets[static_cast<size_t>(at) + 1]);
  return out.finish();
}

}  // namespace

Value get_attribute(Interpreter& interpreter, const Value& object, const Text& name) {
  if (std::optional<Value> attribute = find_attribute(interpreter, object, name.bytes())) return *std::move(attribute);
  if (std::optional<Value> item = find_item(interpreter.heap(), object, name)) return *std::move(item);
  return missing_attribute(object, name.bytes());
}

Value get_item(Interpreter& interpreter, const Value& object, const Value& key) {
  if (object.is_undefined()) object.fail_undefined();
  if (std::optional<Value> item = find_item(interpreter.heap(), object, key)) return *std::move(item);
  if (!key.text()) {
    const std::string repr(to_repr(interpreter.heap(), key).bytes().substr(0, 80));
    return Value::undefined(fmt::format("{} object has no element {}", object.type_name(), sanitize_utf8(repr)));
  }
  if (std::optional<Value> attribute = find_attribute(interpreter, object, key.text()->bytes()))
    return *std::move(attribute);
  return missing_attribute(object, key.text()->bytes());
}

Value get_slice(Heap& heap, const Value& object, const Value& begin, const Value& end, const Value& step) {
  if (object.is_undefined()) object.fail_undefined();
  if (!is_slice_part(begin) || !is_slice_part(end) || !is_slice_part(step))
    fail("the parts of a slice must be integers");
  if (const Text* text = object.text()) {
    return slice_text(heap, *text, slice_range(begin, end, step, length_of(heap, object)));
  }
  const List* list = object.list();
  if (!list || !is_subscriptable(*list)) fail("'{}' object cannot be sliced", object.type_name());
  const SliceRange range = slice_range(begin, end, step, static_cast<int64_t>(list->size()));
  auto result =
      std::make_shared<List>(&heap, list->kind() == List::Kind::kTuple ? List::Kind::kTuple : List::Kind::kList);
  for (int64_t i = 0, at = range.begin; i < range.n; ++i, at += i < range.n ? range.step : 0)
    result->push((*list)[static_cast<size_t>(at)]);
  return result;
}

Value get_path(Interpreter& interpreter, Value object, const Value& path) {
  if (path.is_none()) return object;
  if (!path.text()) return get_item(interpreter, object, path);
  const Text& text = *path.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.bytes().find('.', begin), text.size());
    const Text part = text.slice(begin, end);
    const bool is_index =
        !part.empty() && part.size() < 19 &&
        std::all_of(part.bytes().begin(), part.bytes().end(), [](char c) { return c >= '0' && c <= '9'; });
    object = get_item(interpreter, object, is_index ? Value(std::stoll(std::string(part.bytes()))) : Value(part));
    begin = end + 1;
  }
  return object;
}

}  // namespace spate::jinja
