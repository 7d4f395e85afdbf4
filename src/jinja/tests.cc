// Tests: value is name.
#include "jinja/filter_support.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

// value % divisor == 0, with Python's errors.
bool is_remainder(Interpreter& interpreter, const Value& value, const Value& divisor, int64_t wanted) {
  return equal(interpreter.heap(), apply_binary(interpreter.heap(), BinaryOp::kModulo, value, divisor), wanted);
}

// Some character has a case, and all that have one have this one.
bool has_case(Interpreter& interpreter, const Value& subject, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  bool some = false, all = true;
  const Text text = subject_text(interpreter, subject);
  for_each_character(interpreter.heap(), text.bytes(), [&](const Character& character) {
    some |= wanted(character.codepoint);
    all &= !other(character.codepoint) && !is_title(character.codepoint);
  });
  return some && all;
}

}  // namespace

bool test_boolean(SPATE_JINJA_PARAMETERS) {
  return subject.boolean() != nullptr;
}
bool test_callable(SPATE_JINJA_PARAMETERS) {
  return subject.is_undefined() || (subject.object() && subject.object()->is_callable());
}
bool test_defined(SPATE_JINJA_PARAMETERS) {
  return !subject.is_undefined();
}
bool test_undefined(SPATE_JINJA_PARAMETERS) {
  return subject.is_undefined();
}
bool test_divisibleby(SPATE_JINJA_PARAMETERS) {
  return is_remainder(interpreter, subject, arguments[0], 0);
}
bool test_even(SPATE_JINJA_PARAMETERS) {
  return is_remainder(interpreter, subject, 2, 0);
}
bool test_odd(SPATE_JINJA_PARAMETERS) {
  return is_remainder(interpreter, subject, 2, 1);
}
bool test_escaped(SPATE_JINJA_PARAMETERS) {
  return subject.text() && subject.text()->is_markup();
}
bool test_true(SPATE_JINJA_PARAMETERS) {
  return subject.boolean() && *subject.boolean();
}
bool test_false(SPATE_JINJA_PARAMETERS) {
  return subject.boolean() && !*subject.boolean();
}
bool test_none(SPATE_JINJA_PARAMETERS) {
  return subject.is_none();
}
bool test_filter(SPATE_JINJA_PARAMETERS) {
  return subject.text() && find_filter(subject.text()->bytes());
}
bool test_test(SPATE_JINJA_PARAMETERS) {
  return subject.text() && find_test(subject.text()->bytes());
}
bool test_float(SPATE_JINJA_PARAMETERS) {
  return subject.real() != nullptr;
}
bool test_integer(SPATE_JINJA_PARAMETERS) {
  return subject.is_integer();
}
bool test_number(SPATE_JINJA_PARAMETERS) {
  return subject.is_number();
}
bool test_string(SPATE_JINJA_PARAMETERS) {
  return subject.text() != nullptr;
}
bool test_mapping(SPATE_JINJA_PARAMETERS) {
  return subject.dict() != nullptr;
}
bool test_iterable(SPATE_JINJA_PARAMETERS) {
  return is_iterable(subject);
}
// What has a length and subscripts; an Undefined has both, and can be called, as far as Jinja can tell.
bool test_sequence(SPATE_JINJA_PARAMETERS) {
  const List* list = subject.list();
  return subject.text() || subject.dict() || subject.is_undefined() ||
         (list && (list->kind() == List::Kind::kList || list->kind() == List::Kind::kTuple ||
                   list->kind() == List::Kind::kRange));
}
bool test_lower(SPATE_JINJA_PARAMETERS) {
  return has_case(interpreter, subject, is_lower, is_upper);
}
bool test_upper(SPATE_JINJA_PARAMETERS) {
  return has_case(interpreter, subject, is_upper, is_lower);
}
bool test_in(SPATE_JINJA_PARAMETERS) {
  return contains(interpreter.heap(), arguments[0], subject);
}

// The same object; for values without identity, equal and of one type.
bool test_sameas(SPATE_JINJA_PARAMETERS) {
  const Value& other = arguments[0];
  if (subject.list() || other.list()) return subject.list() == other.list();
  if (subject.dict() || other.dict()) return subject.dict() == other.dict();
  return subject.type_name() == other.type_name() && equal(interpreter.heap(), subject, other);
}

bool test_eq(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kEqual, subject, arguments[0]);
}
bool test_ne(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kNotEqual, subject, arguments[0]);
}
bool test_lt(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kLess, subject, arguments[0]);
}
bool test_le(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kLessEqual, subject, arguments[0]);
}
bool test_gt(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kGreater, subject, arguments[0]);
}
bool test_ge(SPATE_JINJA_PARAMETERS) {
  return compare_values(interpreter.heap(), CompareOp::kGreaterEqual, subject, arguments[0]);
}

}  // namespace spate::jinja
