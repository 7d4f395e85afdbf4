// Methods of lists, tuples, dicts and numbers.
#include <algorithm>
#include <cmath>

#include "jinja/filter_support.h"

namespace spate::jinja {
namespace {

template <typename T>
void require_own(const T& container, const BoundArguments& arguments) {
  if (container.is_input())
    fail("'{}' would change a value that was handed to the template: change a copy instead", arguments.function());
}

// A list that is about to take in another value, and may so become part of a cycle.
List& changed_list(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments) {
  List& list = *subject.list();
  require_own(list, arguments);
  if (!std::exchange(list.kept, true)) interpreter.heap().keep(*subject.list_ptr());
  return list;
}

Dict& changed_dict(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments) {
  Dict& dict = *subject.dict();
  require_own(dict, arguments);
  if (!std::exchange(dict.kept, true)) interpreter.heap().keep(*subject.dict_ptr());
  return dict;
}

std::optional<size_t> position_of(Heap& heap, const List& list, const Value& value, size_t from, size_t to) {
  for (size_t i = from; i < std::min(to, list.size()); ++i)
    if (equal(heap, list[i], value)) return i;
  return std::nullopt;
}

std::ptrdiff_t offset(int64_t i) {
  return static_cast<std::ptrdiff_t>(i);
}

// Where an index, from the end where negative, lies within [0, size].
int64_t clamped(int64_t index, size_t size) {
  const int64_t n = static_cast<int64_t>(size);
  return std::clamp<int64_t>(index < 0 ? index + n : index, 0, n);
}

Value view(Interpreter& interpreter, const Value& subject, List::Kind kind) {
  auto list = new_list(interpreter, kind);
  for (const Dict::Entry& entry : subject.dict()->entries()) {
    if (kind == List::Kind::kDictItems) {
      auto pair = new_list(interpreter, List::Kind::kTuple);
      pair->push(entry.key);
      pair->push(entry.value);
      list->push(std::move(pair));
    } else {
      list->push(kind == List::Kind::kDictKeys ? entry.key : entry.value);
    }
  }
  return list;
}

}  // namespace

// ---- lists

Value method_append(SPATE_JINJA_PARAMETERS) {
  changed_list(interpreter, subject, arguments).push(arguments[0]);
  return None{};
}

Value method_extend(SPATE_JINJA_PARAMETERS) {
  List& list = changed_list(interpreter, subject, arguments);
  list.push_back_all(*items_of(interpreter.heap(), arguments[0]));
  return None{};
}

Value method_insert(SPATE_JINJA_PARAMETERS) {
  List& list = changed_list(interpreter, subject, arguments);
  const int64_t at = clamped(arguments.integer(0), list.size());
  interpreter.heap().step(static_cast<int64_t>(list.size()) - at);
  list.push(arguments[1]);
  std::vector<Value>& items = list.mutable_items();
  std::rotate(items.begin() + offset(at), items.end() - 1, items.end());
  return None{};
}

Value method_list_pop(SPATE_JINJA_PARAMETERS) {
  List& list = changed_list(interpreter, subject, arguments);
  const int64_t size = static_cast<int64_t>(list.size());
  int64_t at = arguments.integer(0, -1);
  at = at < 0 ? at + size : at;
  if (at < 0 || at >= size) fail("pop from an empty list, or past its end");
  std::vector<Value>& items = list.mutable_items();
  interpreter.heap().step(size - at);
  Value value = std::move(items[static_cast<size_t>(at)]);
  items.erase(items.begin() + offset(at));
  return value;
}

Value method_remove(SPATE_JINJA_PARAMETERS) {
  List& list = changed_list(interpreter, subject, arguments);
  const std::optional<size_t> at = position_of(interpreter.heap(), list, arguments[0], 0, list.size());
  if (!at) fail("the value to remove is not in the list");
  list.mutable_items().erase(list.mutable_items().begin() + offset(static_cast<int64_t>(*at)));
  return None{};
}

Value method_list_reverse(SPATE_JINJA_PARAMETERS) {
  List& list = changed_list(interpreter, subject, arguments);
  interpreter.heap().step(static_cast<int64_t>(list.size()));
  std::reverse(list.mutable_items().begin(), list.mutable_items().end());
  return None{};
}

Value method_list_clear(SPATE_JINJA_PARAMETERS) {
  changed_list(interpreter, subject, arguments).break_references();
  return None{};
}

Value method_list_copy(SPATE_JINJA_PARAMETERS) {
  auto copy = new_list(interpreter);
  copy->push_back_all(*subject.list());
  return copy;
}

Value method_list_count(SPATE_JINJA_PARAMETERS) {
  int64_t n = 0;
  const List& list = *subject.list();
  for (size_t i = 0; i < list.size(); ++i) n += equal(interpreter.heap(), list[i], arguments[0]);
  return n;
}

Value method_list_index(SPATE_JINJA_PARAMETERS) {
  const List& list = *subject.list();
  const int64_t from = clamped(arguments.integer(1, 0), list.size());
  const int64_t to = clamped(arguments.integer(2, INT64_MAX), list.size());
  const std::optional<size_t> at =
      position_of(interpreter.heap(), list, arguments[0], static_cast<size_t>(from), static_cast<size_t>(to));
  if (!at) fail("the value to find the index of is not in the {}", subject.type_name());
  return static_cast<int64_t>(*at);
}

// ---- dicts

Value method_get(SPATE_JINJA_PARAMETERS) {
  const Value* value = subject.dict()->find(interpreter.heap(), arguments[0]);
  return value ? *value : arguments[1];
}

Value method_items(SPATE_JINJA_PARAMETERS) {
  return view(interpreter, subject, List::Kind::kDictItems);
}

Value method_keys(SPATE_JINJA_PARAMETERS) {
  return view(interpreter, subject, List::Kind::kDictKeys);
}

Value method_values(SPATE_JINJA_PARAMETERS) {
  return view(interpreter, subject, List::Kind::kDictValues);
}

Value method_dict_copy(SPATE_JINJA_PARAMETERS) {
  auto copy = std::make_shared<Dict>(&interpreter.heap());
  for (const Dict::Entry& entry : subject.dict()->entries()) copy->set(interpreter.heap(), entry.key, entry.value);
  return copy;
}

Value method_dict_clear(SPATE_JINJA_PARAMETERS) {
  changed_dict(interpreter, subject, arguments).clear();
  return None{};
}

Value method_dict_pop(SPATE_JINJA_PARAMETERS) {
  Dict& dict = changed_dict(interpreter, subject, arguments);
  const Value* found = dict.find(interpreter.heap(), arguments[0]);
  if (!found && !arguments.has(1)) fail("the key to pop is not in the dict");
  if (!found) return arguments[1];
  Value value = *found;
  dict.erase(interpreter.heap(), arguments[0]);
  return value;
}

Value method_setdefault(SPATE_JINJA_PARAMETERS) {
  Dict& dict = changed_dict(interpreter, subject, arguments);
  if (const Value* value = dict.find(interpreter.heap(), arguments[0])) return *value;
  dict.set(interpreter.heap(), arguments[0], arguments[1]);
  return arguments[1];
}

Value method_update(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  Dict& dict = changed_dict(interpreter, subject, arguments);
  const Arguments& all = arguments.all();
  if (all.positional.size() > 1) fail("'update' takes one mapping at most");
  if (!all.positional.empty()) {
    const Dict* other = all.positional[0].dict();
    if (!other) fail("'update' needs a mapping, not '{}'", all.positional[0].type_name());
    if (other != &dict)
      for (const Dict::Entry& entry : other->entries()) dict.set(heap, entry.key, entry.value);
  }
  for (const auto& [name, value] : all.named) dict.set(name, value);
  return None{};
}

// ---- numbers

Value method_is_integer(SPATE_JINJA_PARAMETERS) {
  return !subject.real() || *subject.real() == std::floor(*subject.real());
}

}  // namespace spate::jinja
