// Filters that apply other filters and tests to each item, and those that choose between values.
#include "base/utf8.h"
#include "jinja/filter_support.h"

namespace spate::jinja {

Value filter_default(SPATE_JINJA_PARAMETERS) {
  if (!subject.is_undefined() && !(arguments.flag(1, false) && !truthy(subject))) return subject;
  return arguments.has(0) ? arguments[0] : Value(Text());
}

// Unlike a subscript, it does not fall back to an item of that name.
Value filter_attr(SPATE_JINJA_PARAMETERS) {
  const Text name = arguments.text(0);
  if (subject.is_undefined()) subject.fail_undefined();
  Value attribute = get_attribute(interpreter, subject, name);
  const Dict* dict = subject.dict();
  if (!dict || find_method(subject, name.bytes())) return attribute;
  return Value::undefined(fmt::format("'dict object' has no attribute {}", quote(name.bytes())));
}

Value filter_random(SPATE_JINJA_PARAMETERS) {
  fail("the filter 'random' is not supported: a rendering must be the same each time");
}

namespace {

// The positional arguments from `from` on, and the named ones: what is left for the filter or test that they name.
Arguments rest_of(Heap& heap, const Arguments& arguments, size_t from) {
  Arguments rest;
  heap.step(static_cast<int64_t>(arguments.positional.size() + arguments.named.size()));
  for (size_t i = from; i < arguments.positional.size(); ++i) rest.positional.push_back(arguments.positional[i]);
  rest.named = arguments.named;
  return rest;
}

// None, where what there is to filter is false, of whatever type.
ListPtr items_to_filter(Interpreter& interpreter, const Value& subject) {
  return truthy(subject) ? items_of(interpreter.heap(), subject) : new_list(interpreter);
}

std::string_view name_at(const BoundArguments& arguments, size_t i) {
  const Text* name = arguments.all().positional[i].text();
  if (!name) fail("'{}' needs the name of a filter or test as a string", arguments.function());
  return name->bytes();
}

Value map_attribute(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments) {
  const Value* attribute = nullptr;
  Value fallback = None{};
  for (const auto& [name, value] : arguments.all().named) {
    if (name.bytes() == "attribute")
      attribute = &value;
    else if (name.bytes() == "default")
      fallback = value;
    else
      fail("'map' takes no argument named {}", quote(name.bytes()));
  }
  if (!attribute) fail("'map' needs the name of a filter, or an attribute");
  const ListPtr items = items_to_filter(interpreter, subject);
  auto result = new_list(interpreter, List::Kind::kGenerator);
  for (size_t i = 0; i < items->size(); ++i) {
    Value value = get_path(interpreter, (*items)[i], *attribute);
    if (value.is_undefined() && !fallback.is_none()) value = fallback;
    result->push(std::move(value));
  }
  return result;
}

// The items for which a test holds, or does not. by_attribute: of an attribute, the first argument, instead of the
// item. Without a test it is truth that decides.
Value select_items(SPATE_JINJA_PARAMETERS, bool wanted, bool by_attribute) {
  const Arguments& all = arguments.all();
  const size_t test_at = by_attribute ? 1 : 0;
  if (by_attribute && all.positional.empty()) fail("'{}' needs the name of an attribute", arguments.function());
  const bool has_test = all.positional.size() > test_at;
  const ListPtr items = items_to_filter(interpreter, subject);
  auto result = new_list(interpreter, List::Kind::kGenerator);
  for (size_t i = 0; i < items->size(); ++i) {
    const Value item = (*items)[i];
    const Value tested = by_attribute ? get_path(interpreter, item, all.positional[0]) : item;
    interpreter.heap().step();
    bool holds = false;
    if (has_test) {
      Arguments rest = rest_of(interpreter.heap(), all, test_at + 1);
      holds = interpreter.apply_test(name_at(arguments, test_at), tested, rest);
    } else {
      holds = truthy(tested);
    }
    if (holds == wanted) result->push(item);
  }
  return result;
}

}  // namespace

Value filter_map(SPATE_JINJA_PARAMETERS) {
  if (arguments.all().positional.empty()) return map_attribute(interpreter, subject, arguments);
  const ListPtr items = items_to_filter(interpreter, subject);
  auto result = new_list(interpreter, List::Kind::kGenerator);
  for (size_t i = 0; i < items->size(); ++i) {
    Arguments rest = rest_of(interpreter.heap(), arguments.all(), 1);
    const DepthGuard guard(interpreter.heap());  // map('map', 'map', ...) goes a level down for each
    result->push(interpreter.apply_filter(name_at(arguments, 0), (*items)[i], rest));
  }
  return result;
}

Value filter_select(SPATE_JINJA_PARAMETERS) {
  return select_items(interpreter, subject, arguments, true, false);
}

Value filter_reject(SPATE_JINJA_PARAMETERS) {
  return select_items(interpreter, subject, arguments, false, false);
}

Value filter_selectattr(SPATE_JINJA_PARAMETERS) {
  return select_items(interpreter, subject, arguments, true, true);
}

Value filter_rejectattr(SPATE_JINJA_PARAMETERS) {
  return select_items(interpreter, subject, arguments, false, true);
}

}  // namespace spate::jinja
