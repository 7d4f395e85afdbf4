// Filters on sequences and mappings as wholes.
#include <algorithm>
#include <functional>

#include "jinja/filter_support.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

// What a sort or comparison looks at: the attribute where one is named, strings in lower case unless case counts.
Value sort_key(Interpreter& interpreter, const Value& item, const Value& attribute, bool case_sensitive) {
  Value key = get_path(interpreter, item, attribute);
  if (case_sensitive || !key.text()) return key;
  return change_case(interpreter.heap(), *key.text(), Case::kLower);
}

// "a,b.c": several attributes, compared one after the other.
std::vector<Value> attribute_list(const Value& attribute) {
  if (!attribute.text()) return {attribute};
  std::vector<Value> attributes;
  const Text& text = *attribute.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.bytes().find(',', begin), text.size());
    attributes.emplace_back(text.slice(begin, end));
    begin = end + 1;
  }
  return attributes;
}

// The order in which a stable sort by these keys visits the items; in reverse, equal ones keep their order too.
std::vector<size_t> sorted_order(Heap& heap, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int result = compare(heap, keys[a], keys[b], "<");
    return reverse ? result > 0 : result < 0;
  });
  return order;
}

Value picked(Interpreter& interpreter, const List& items, const std::vector<size_t>& order) {
  auto result = new_list(interpreter);
  for (const size_t i : order) result->push(items[i]);
  return result;
}

}  // namespace

Value filter_length(SPATE_JINJA_PARAMETERS) {
  return length_of(interpreter.heap(), subject);
}

Value filter_list(SPATE_JINJA_PARAMETERS) {
  auto result = new_list(interpreter);
  result->push_back_all(*items_of(interpreter.heap(), subject));
  return result;
}

Value filter_items(SPATE_JINJA_PARAMETERS) {
  auto pairs = new_list(interpreter, List::Kind::kGenerator);
  if (subject.is_undefined()) return pairs;
  const Dict* dict = subject.dict();
  if (!dict) fail("'items' needs a mapping, not '{}'", subject.type_name());
  for (const Dict::Entry& entry : dict->entries()) {
    auto pair = new_list(interpreter, List::Kind::kTuple);
    pair->push(entry.key);
    pair->push(entry.value);
    pairs->push(std::move(pair));
  }
  return pairs;
}

Value filter_first(SPATE_JINJA_PARAMETERS) {
  if (List* list = subject.list(); list && list->kind() == List::Kind::kGenerator) {
    if (list->n_consumed < list->size()) return (*list)[list->n_consumed++];
  } else if (const Text* text = subject.text()) {
    if (!text->empty()) return text->slice(0, character_offset(interpreter.heap(), text->bytes(), 1));
  } else if (const ListPtr items = items_of(interpreter.heap(), subject); items->size() > 0) {
    return (*items)[0];
  }
  return Value::undefined("no first item, the sequence was empty");
}

Value filter_last(SPATE_JINJA_PARAMETERS) {
  if (const List* list = subject.list(); list && list->kind() == List::Kind::kGenerator)
    fail("'last' does not work with a generator: use `list` before it");
  const ListPtr items = items_of(interpreter.heap(), subject);
  if (items->size() > 0) return (*items)[items->size() - 1];
  return Value::undefined("no last item, the sequence was empty");
}

Value filter_join(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  const Text separator = arguments.has(0) ? to_text(heap, arguments[0]) : Text();
  const ListPtr items = items_of(heap, subject);
  if (arguments[1].is_none()) return join(heap, separator, *items);
  auto attributes = new_list(interpreter);
  for (size_t i = 0; i < items->size(); ++i) attributes->push(get_path(interpreter, (*items)[i], arguments[1]));
  return join(heap, separator, *attributes);
}

Value filter_reverse(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  if (const Text* text = subject.text()) {
    TextBuilder out(heap);
    for (size_t end = text->size(); end > 0;) {
      size_t begin = end - 1;
      while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text->bytes()[begin]) & 0xC0) == 0x80) --begin;
      const DecodedUtf8 decoded = decode_utf8(text->bytes().substr(begin, end - begin));
      if (!decoded.valid || static_cast<size_t>(decoded.n_bytes) != end - begin) begin = end - 1;
      out.append(*text, begin, end);
      end = begin;
    }
    return out.finish();
  }
  const ListPtr items = items_of(heap, subject);
  auto result = new_list(interpreter, List::Kind::kGenerator);
  for (size_t i = items->size(); i-- > 0;) result->push((*items)[i]);
  return result;
}

Value filter_sum(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  Value total = arguments.has(1) ? arguments[1] : Value(0);
  if (total.text()) fail("'sum' does not add strings: use `join`");
  const ListPtr items = items_of(heap, subject);
  for (size_t i = 0; i < items->size(); ++i) {
    heap.step();
    total = apply_binary(heap, BinaryOp::kAdd, total, get_path(interpreter, (*items)[i], arguments[0]));
  }
  return total;
}

// ---- groups

Value filter_batch(SPATE_JINJA_PARAMETERS) {
  const int64_t size = arguments.integer(0);
  if (size <= 0) fail("'batch' needs a positive size, not {}", size);
  const ListPtr items = items_of(interpreter.heap(), subject);
  auto batches = new_list(interpreter, List::Kind::kGenerator);
  std::shared_ptr<List> batch;
  for (size_t i = 0; i < items->size(); ++i) {
    if (!batch || static_cast<int64_t>(batch->size()) == size) {
      batch = new_list(interpreter);
      batches->push(batch);
    }
    batch->push((*items)[i]);
  }
  if (batch && !arguments[1].is_none())
    while (static_cast<int64_t>(batch->size()) < size) batch->push(arguments[1]);
  return batches;
}

Value filter_slice(SPATE_JINJA_PARAMETERS) {
  const int64_t n_slices = arguments.integer(0);
  if (n_slices <= 0) fail("'slice' needs a positive number of slices, not {}", n_slices);
  const ListPtr items = items_of(interpreter.heap(), subject);
  const int64_t n = static_cast<int64_t>(items->size());
  auto slices = new_list(interpreter, List::Kind::kGenerator);
  int64_t next = 0;
  for (int64_t i = 0; i < n_slices; ++i) {
    auto slice = new_list(interpreter);
    const bool has_extra = i < n % n_slices;
    for (const int64_t end = next + n / n_slices + has_extra; next < end; ++next)
      slice->push((*items)[static_cast<size_t>(next)]);
    if (!has_extra && !arguments[1].is_none()) slice->push(arguments[1]);
    slices->push(std::move(slice));
  }
  return slices;
}

Value filter_groupby(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  const bool case_sensitive = arguments.flag(2, false);
  const ListPtr items = items_of(heap, subject);
  std::vector<Value> values, keys;
  for (size_t i = 0; i < items->size(); ++i) {
    Value value = get_path(interpreter, (*items)[i], arguments[0]);
    if (value.is_undefined() && !arguments[1].is_none()) value = arguments[1];
    keys.push_back(sort_key(interpreter, value, None{}, case_sensitive));
    values.push_back(std::move(value));
  }
  auto groups = new_list(interpreter);
  std::shared_ptr<List> members;
  const Value* current = nullptr;
  for (const size_t i : sorted_order(heap, keys, false)) {
    if (!current || !equal(heap, *current, keys[i])) {
      current = &keys[i];
      members = new_list(interpreter);
      auto group = new_list(interpreter, List::Kind::kTuple);
      group->is_group = true;
      group->push(values[i]);
      group->push(members);
      groups->push(std::move(group));
    }
    members->push((*items)[i]);
  }
  return groups;
}

Value filter_unique(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  const bool case_sensitive = arguments.flag(0, false);
  const ListPtr items = items_of(heap, subject);
  Dict seen(&heap);
  auto result = new_list(interpreter, List::Kind::kGenerator);
  for (size_t i = 0; i < items->size(); ++i) {
    const Value key = sort_key(interpreter, (*items)[i], arguments[1], case_sensitive);
    if (seen.find(heap, key)) continue;
    seen.set(heap, key, true);
    result->push((*items)[i]);
  }
  return result;
}

// ---- order

Value filter_sort(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  const bool case_sensitive = arguments.flag(1, false);
  const std::vector<Value> attributes = attribute_list(arguments[2]);
  const ListPtr items = items_of(heap, subject);
  std::vector<Value> keys;
  for (size_t i = 0; i < items->size(); ++i) {
    auto key = new_list(interpreter);
    for (const Value& attribute : attributes) key->push(sort_key(interpreter, (*items)[i], attribute, case_sensitive));
    keys.emplace_back(std::move(key));
  }
  return picked(interpreter, *items, sorted_order(heap, keys, arguments.flag(0, false)));
}

Value filter_dictsort(SPATE_JINJA_PARAMETERS) {
  const std::string by(arguments.has(1) ? arguments.text(1).bytes() : "key");
  if (by != "key" && by != "value") fail("'dictsort' can only sort by 'key' or 'value'");
  if (subject.is_undefined()) subject.fail_undefined();
  if (!subject.dict()) fail("'dictsort' needs a mapping, not '{}'", subject.type_name());
  const bool case_sensitive = arguments.flag(0, false);
  const Value pairs = filter_items(interpreter, subject, arguments);
  std::vector<Value> keys;
  for (const Value& pair : pairs.list()->items())
    keys.push_back(sort_key(interpreter, (*pair.list())[by == "key" ? 0 : 1], None{}, case_sensitive));
  return picked(interpreter, *pairs.list(), sorted_order(interpreter.heap(), keys, arguments.flag(2, false)));
}

namespace {
Value extreme(SPATE_JINJA_PARAMETERS, bool want_greatest) {
  Heap& heap = interpreter.heap();
  const bool case_sensitive = arguments.flag(0, false);
  const ListPtr items = items_of(heap, subject);
  if (items->size() == 0) return Value::undefined("no aggregated item, the sequence was empty");
  size_t best = 0;
  Value best_key = sort_key(interpreter, (*items)[0], arguments[1], case_sensitive);
  for (size_t i = 1; i < items->size(); ++i) {
    Value key = sort_key(interpreter, (*items)[i], arguments[1], case_sensitive);
    const int result = compare(heap, key, best_key, want_greatest ? ">" : "<");
    if (want_greatest ? result <= 0 : result >= 0) continue;
    best = i;
    best_key = std::move(key);
  }
  return (*items)[best];
}
}  // namespace

Value filter_min(SPATE_JINJA_PARAMETERS) {
  return extreme(interpreter, subject, arguments, false);
}

Value filter_max(SPATE_JINJA_PARAMETERS) {
  return extreme(interpreter, subject, arguments, true);
}

}  // namespace spate::jinja
