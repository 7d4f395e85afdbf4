// Truth, equality, order and hashes of values, as Python has them.
#include <algorithm>
#include <cmath>

#include "jinja/value.h"

namespace spate::jinja {
namespace {

bool is_listlike(List::Kind kind) {
  return kind == List::Kind::kList || kind == List::Kind::kTuple || kind == List::Kind::kRange;
}

bool equal_at(Heap& heap, const Value& a, const Value& b);

bool equal_lists(Heap& heap, const List& a, const List& b) {
  if (&a == &b) return true;
  if (a.kind() != b.kind() || !is_listlike(a.kind()) || a.size() != b.size()) return false;
  const DepthGuard guard(heap);
  for (size_t i = 0; i < a.size(); ++i)
    if (!equal_at(heap, a[i], b[i])) return false;
  return true;
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b) {
  if (&a == &b) return true;
  if (a.size() != b.size()) return false;
  const DepthGuard guard(heap);
  for (const Dict::Entry& entry : a.entries()) {
    const Value* other = b.find(heap, entry.key);
    if (!other || !equal_at(heap, entry.value, *other)) return false;
  }
  return true;
}

int sign(auto a, auto b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Exact where a double cannot hold the integer.
int compare_numbers(const Value& a, const Value& b) {
  const std::optional<int64_t> x = a.integer(), y = b.integer();
  if (x && y) return sign(*x, *y);
  return sign(static_cast<long double>(x ? static_cast<long double>(*x) : *a.number()),
              static_cast<long double>(y ? static_cast<long double>(*y) : *b.number()));
}

bool is_nan(const Value& value) {
  return value.real() && std::isnan(*value.real());
}

bool equal_at(Heap& heap, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
  if (a.text() && b.text()) {
    heap.read(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.list() && b.list()) return equal_lists(heap, *a.list(), *b.list());
  if (a.dict() && b.dict()) return equal_dicts(heap, *a.dict(), *b.dict());
  return a.object() && a.object() == b.object();
}

int compare_at(Heap& heap, const Value& a, const Value& b, std::string_view op) {
  heap.step();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.text() && b.text()) {
    heap.read(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes().compare(b.text()->bytes());
  }
  if (a.is_undefined()) a.fail_undefined();
  if (b.is_undefined()) b.fail_undefined();
  const List *x = a.list(), *y = b.list();
  if (!x || !y || x->kind() != y->kind() || (x->kind() != List::Kind::kList && x->kind() != List::Kind::kTuple))
    fail("'{}' is not supported between '{}' and '{}'", op, a.type_name(), b.type_name());
  const DepthGuard guard(heap);
  for (size_t i = 0; i < x->size() && i < y->size(); ++i)
    if (!equal_at(heap, (*x)[i], (*y)[i])) return compare_at(heap, (*x)[i], (*y)[i], op);
  return sign(x->size(), y->size());
}

size_t hash_at(Heap& heap, const Value& value) {
  heap.step();
  if (const Text* text = value.text()) {
    heap.read(text->size());
    return std::hash<std::string_view>()(text->bytes());
  }
  if (const std::optional<int64_t> number = value.integer()) return std::hash<int64_t>()(*number);
  if (const double* number = value.real()) {
    // Equal numbers have equal hashes, whatever their type.
    const bool whole = *number >= -0x1p63 && *number < 0x1p63 && *number == std::floor(*number);
    return whole ? std::hash<int64_t>()(static_cast<int64_t>(*number)) : std::hash<double>()(*number);
  }
  if (value.is_none()) return 1;
  if (value.is_undefined()) return 2;
  if (const Object* object = value.object()) return std::hash<const Object*>()(object);
  const List* list = value.list();
  if (!list || list->kind() != List::Kind::kTuple) fail("unhashable type: '{}'", value.type_name());
  const DepthGuard guard(heap);
  size_t hash = list->size();
  for (const Value& item : list->items()) hash = hash * 1000003 + hash_at(heap, item);
  return hash;
}

}  // namespace

bool truthy(const Value& value) {
  if (const bool* boolean = value.boolean()) return *boolean;
  if (const Text* text = value.text()) return !text->empty();
  if (const std::optional<double> number = value.number()) return *number != 0;
  if (const List* list = value.list()) return list->kind() == List::Kind::kGenerator || list->size() > 0;
  if (const Dict* dict = value.dict()) return dict->size() > 0;
  return value.object() != nullptr;
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  return equal_at(heap, a, b);
}

int compare(Heap& heap, const Value& a, const Value& b, std::string_view op) {
  return compare_at(heap, a, b, op);
}

size_t hash_of(Heap& heap, const Value& value) {
  return hash_at(heap, value);
}

}  // namespace spate::jinja
