// What the operators of the language do to values, as Python's do. All throw Failure for types that do not fit.
#pragma once

#include <string>

#include "jinja/ast.h"
#include "jinja/value.h"

namespace spate::jinja {

// ---- arithmetic; + - * / // % ** between numbers, + and * on sequences, % as printf on strings
Value apply_binary(Heap& heap, BinaryOp op, const Value& left, const Value& right);
Value negate(const Value& value);

bool compare_values(Heap& heap, CompareOp op, const Value& left, const Value& right);
// item in container
bool contains(Heap& heap, const Value& container, const Value& item);

// ---- items
// The items that iterating visits: a list itself (not a copy), the characters of a string, the keys of a dict, what is
// left of a generator (which is then used up).
ListPtr items_of(Heap& heap, const Value& value);
bool is_iterable(const Value& value);
int64_t length_of(Heap& heap, const Value& value);

// ---- parts
// object.name: a method or attribute before an item of that name; Undefined where there is neither.
Value get_attribute(Interpreter& interpreter, const Value& object, const Text& name);
// object[key]: the item before the attribute.
Value get_item(Interpreter& interpreter, const Value& object, const Value& key);
// object[begin:end:step]; a part that is absent is none.
Value get_slice(Heap& heap, const Value& object, const Value& begin, const Value& end, const Value& step);
// "a.b.0" as filters take it: get_item along the path. An integer is itself; none is no step at all.
Value get_path(Interpreter& interpreter, Value object, const Value& path);

// ---- text
// str(). What is made of other text keeps that text's origin. A number, a boolean and none by themselves count as the
// template's: they have no bytes of their own choosing, and a template may build `<|image_7|>` from them. What stands
// between the items of a list or dict (brackets, quotes, separators, numbers) counts as the request's, as whoever made
// the list arranges it: kMade.
inline constexpr Origin kMade = Origin::kRequest;
Text to_text(Heap& heap, const Value& value);
// repr().
Text to_repr(Heap& heap, const Value& value);
void append_repr(Heap& heap, TextBuilder& out, const Value& value);
// A float as Python prints it: the fewest digits that read back as the same number.
std::string float_repr(double value);
// HTML's & < > ' " as entities.
Text escape_html(Heap& heap, const Text& text);

}  // namespace spate::jinja
