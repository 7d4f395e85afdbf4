#include "jinja/operators.h"

#include <cmath>

#include "jinja/format.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

std::string_view op_name(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSubtract:
      return "-";
    case BinaryOp::kMultiply:
      return "*";
    case BinaryOp::kDivide:
      return "/";
    case BinaryOp::kFloorDivide:
      return "//";
    case BinaryOp::kModulo:
      return "%";
    case BinaryOp::kPower:
      return "**";
  }
  SPATE_CHECK(false, "an operator of no kind");
}

[[noreturn]] void fail_overflow(BinaryOp op) {
  fail("the result of '{}' does not fit 64 bits", op_name(op));
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (a == INT64_MIN && b == -1) fail_overflow(BinaryOp::kFloorDivide);
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t floor_modulo(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t remainder = a % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double floor_modulo(double a, double b) {
  const double remainder = std::fmod(a, b);
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) fail_overflow(BinaryOp::kPower);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow(BinaryOp::kPower);
  }
  return result;
}

Value integer_result(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOp::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case BinaryOp::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOp::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case BinaryOp::kDivide:
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOp::kFloorDivide:
      return floor_divide(a, b);
    case BinaryOp::kModulo:
      return floor_modulo(a, b);
    case BinaryOp::kPower:
      if (b >= 0) return integer_power(a, b);
      return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
  if (overflow) fail_overflow(op);
  return result;
}

Value real_result(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return a + b;
    case BinaryOp::kSubtract:
      return a - b;
    case BinaryOp::kMultiply:
      return a * b;
    case BinaryOp::kDivide:
      return a / b;
    case BinaryOp::kFloorDivide:
      return std::floor(a / b);
    case BinaryOp::kModulo:
      return floor_modulo(a, b);
    case BinaryOp::kPower:
      break;
  }
  const double power = std::pow(a, b);
  if (std::isnan(power) && !std::isnan(a) && !std::isnan(b)) fail("'**' of a negative number has no real result");
  return power;
}

Value number_result(BinaryOp op, const Value& left, const Value& right) {
  const bool divides = op == BinaryOp::kDivide || op == BinaryOp::kFloorDivide || op == BinaryOp::kModulo;
  if (divides && *right.number() == 0) fail("division by zero");
  if (op == BinaryOp::kPower && *left.number() == 0 && *right.number() < 0) fail("zero to a negative power");
  const std::optional<int64_t> a = left.integer(), b = right.integer();
  return a && b ? integer_result(op, *a, *b) : real_result(op, *left.number(), *right.number());
}

Value add_texts(Heap& heap, const Text& left, const Text& right) {
  const bool markup = left.is_markup() || right.is_markup();
  TextBuilder out(heap);
  for (const Text* text : {&left, &right}) out.append(markup && !text->is_markup() ? escape_html(heap, *text) : *text);
  return out.finish().as_markup(markup);
}

bool is_plain_sequence(const Value& value) {
  const List* list = value.list();
  return list && (list->kind() == List::Kind::kList || list->kind() == List::Kind::kTuple);
}

Value add_lists(Heap& heap, const List& left, const List& right) {
  auto result = std::make_shared<List>(&heap, left.kind());
  result->push_back_all(left);
  result->push_back_all(right);
  return result;
}

Value repeat(Heap& heap, const Value& sequence, int64_t n) {
  if (const Text* text = sequence.text()) {
    TextBuilder out(heap);
    out.append_repeated(*text, n);
    return out.finish();
  }
  const List& list = *sequence.list();
  auto result = std::make_shared<List>(&heap, list.kind());
  if (list.size() > 0)
    for (int64_t i = 0; i < n; ++i) result->push_back_all(list);
  return result;
}

}  // namespace

Value apply_binary(Heap& heap, BinaryOp op, const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return number_result(op, left, right);
  if (op == BinaryOp::kModulo && left.text()) return percent_format(heap, *left.text(), right);
  if (left.is_undefined()) left.fail_undefined();
  if (right.is_undefined()) right.fail_undefined();
  if (op == BinaryOp::kAdd && left.text() && right.text()) return add_texts(heap, *left.text(), *right.text());
  if (op == BinaryOp::kAdd && is_plain_sequence(left) && is_plain_sequence(right) &&
      left.list()->kind() == right.list()->kind())
    return add_lists(heap, *left.list(), *right.list());
  if (op == BinaryOp::kMultiply && (left.text() || is_plain_sequence(left)) && right.integer())
    return repeat(heap, left, *right.integer());
  if (op == BinaryOp::kMultiply && (right.text() || is_plain_sequence(right)) && left.integer())
    return repeat(heap, right, *left.integer());
  fail("unsupported operand types for {}: '{}' and '{}'", op_name(op), left.type_name(), right.type_name());
}

Value negate(const Value& value) {
  if (value.is_undefined()) value.fail_undefined();
  if (const std::optional<int64_t> integer = value.integer()) {
    if (*integer == INT64_MIN) fail_overflow(BinaryOp::kSubtract);
    return -*integer;
  }
  if (!value.real()) fail("unsupported operand type for -: '{}'", value.type_name());
  return -*value.real();
}

bool compare_values(Heap& heap, CompareOp op, const Value& left, const Value& right) {
  const auto is_nan = [](const Value& value) { return value.real() && std::isnan(*value.real()); };
  const bool ordered = !is_nan(left) && !is_nan(right);
  switch (op) {
    case CompareOp::kEqual:
      return equal(heap, left, right);
    case CompareOp::kNotEqual:
      return !equal(heap, left, right);
    case CompareOp::kLess:
      return compare(heap, left, right, "<") < 0 && ordered;
    case CompareOp::kLessEqual:
      return compare(heap, left, right, "<=") <= 0 && ordered;
    case CompareOp::kGreater:
      return compare(heap, left, right, ">") > 0 && ordered;
    case CompareOp::kGreaterEqual:
      return compare(heap, left, right, ">=") >= 0 && ordered;
    case CompareOp::kIn:
      return contains(heap, right, left);
    case CompareOp::kNotIn:
      return !contains(heap, right, left);
  }
  SPATE_CHECK(false, "a comparison of no kind");
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (const Text* text = container.text()) {
    if (!item.text()) fail("'in' a string needs a string on its left, not '{}'", item.type_name());
    return find_bytes(heap, text->bytes(), item.text()->bytes()) != std::string_view::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(heap, item) != nullptr;
  if (!is_iterable(container)) fail("'{}' object has no items to look 'in'", container.type_name());
  if (List* list = container.list(); list && list->kind() == List::Kind::kGenerator) {
    while (list->n_consumed < list->size())  // what was looked at is gone
      if (equal(heap, (*list)[list->n_consumed++], item)) return true;
    return false;
  }
  const ListPtr items = items_of(heap, container);
  for (size_t i = 0; i < items->size(); ++i)
    if (equal(heap, (*items)[i], item)) return true;
  return false;
}

// ---- items

bool is_iterable(const Value& value) {
  return value.text() || value.list() || value.dict() || value.is_undefined();
}

ListPtr items_of(Heap& heap, const Value& value) {
  if (const ListPtr* list = value.list_ptr()) {
    heap.step();
    if ((*list)->kind() != List::Kind::kGenerator) return *list;
    auto rest = std::make_shared<List>(&heap);
    for (size_t i = (*list)->n_consumed; i < (*list)->size(); ++i) rest->push((**list)[i]);
    (*list)->n_consumed = (*list)->size();
    return rest;
  }
  auto items = std::make_shared<List>(&heap);
  if (const Text* text = value.text()) {
    for_each_character(heap, text->bytes(), [&](const Character& character) {
      items->push(text->slice(character.offset, character.offset + character.bytes.size()));
    });
  } else if (const Dict* dict = value.dict()) {
    for (const Dict::Entry& entry : dict->entries()) items->push(entry.key);
  } else if (!value.is_undefined()) {
    fail("'{}' object is not iterable", value.type_name());
  }
  return items;
}

int64_t length_of(Heap& heap, const Value& value) {
  if (const Text* text = value.text()) return static_cast<int64_t>(count_characters(heap, text->bytes()));
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->size());
  if (value.is_undefined()) return 0;
  const List* list = value.list();
  if (!list || list->kind() == List::Kind::kGenerator) fail("object of type '{}' has no length", value.type_name());
  return static_cast<int64_t>(list->size());
}

}  // namespace spate::jinja
