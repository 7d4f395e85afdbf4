// The filter `pprint`: Python's pprint.pformat. What does not fit 80 columns is broken at the items of its lists and
// dicts, dicts in the order of their keys. Strings stay whole, where Python would break long ones too.
#include <algorithm>

#include "jinja/filter_support.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

constexpr size_t kColumns = 80;

class PrettyPrinter {
 public:
  explicit PrettyPrinter(Heap& heap) : heap_(heap), out_(heap) {}

  Text run(const Value& value) {
    print(value, 0, 0);
    return out_.finish();
  }

 private:
  static void append(TextBuilder& out, std::string_view text) { out.append(text, Origin::kRequest); }

  std::vector<const Dict::Entry*> sorted(const Dict& dict) {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    // Keys that have no order among themselves are sorted by type.
    const auto less = [this](const Value& a, const Value& b) {
      if (a.is_number() && b.is_number()) return compare(heap_, a, b, "<") < 0;
      if (a.text() && b.text()) return a.text()->bytes() < b.text()->bytes();
      return a.type_name() < b.type_name();
    };
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const Dict::Entry* a, const Dict::Entry* b) { return less(a->key, b->key); });
    return entries;
  }

  // repr() with the keys of every dict in order.
  void print_flat(TextBuilder& out, const Value& value) {
    const DepthGuard guard(heap_);
    const List* list = value.list();
    if (list && (list->kind() == List::Kind::kList || list->kind() == List::Kind::kTuple)) {
      const bool is_tuple = list->kind() == List::Kind::kTuple;
      append(out, is_tuple ? "(" : "[");
      for (size_t i = 0; i < list->size(); ++i) {
        if (i > 0) append(out, ", ");
        print_flat(out, (*list)[i]);
      }
      append(out, !is_tuple ? "]" : list->size() == 1 ? ",)" : ")");
    } else if (const Dict* dict = value.dict()) {
      append(out, "{");
      bool first = true;
      for (const Dict::Entry* entry : sorted(*dict)) {
        if (!std::exchange(first, false)) append(out, ", ");
        print_flat(out, entry->key);
        append(out, ": ");
        print_flat(out, entry->value);
      }
      append(out, "}");
    } else {
      append_repr(heap_, out, value);
    }
  }

  // indent: the column at which the value begins. allowance: characters that will follow it on its last line.
  void print(const Value& value, size_t indent, size_t allowance) {
    const DepthGuard guard(heap_);
    heap_.step();
    TextBuilder flat(heap_);
    print_flat(flat, value);
    const List* list = value.list();
    const bool breaks =
        (list && list->size() > 0 && (list->kind() == List::Kind::kList || list->kind() == List::Kind::kTuple)) ||
        (value.dict() && value.dict()->size() > 0);
    if (!breaks || count_characters(heap_, flat.bytes()) + indent + allowance <= kColumns)
      return out_.append(flat.finish());
    if (list) return print_list(*list, indent, allowance);
    print_dict(*value.dict(), indent, allowance);
  }

  void next_line(size_t indent) {
    append(out_, ",\n");
    out_.append_repeated(Text(" ", Origin::kRequest), static_cast<int64_t>(indent));
  }

  void print_list(const List& list, size_t indent, size_t allowance) {
    const bool is_tuple = list.kind() == List::Kind::kTuple;
    const std::string_view end = !is_tuple ? "]" : list.size() == 1 ? ",)" : ")";
    append(out_, is_tuple ? "(" : "[");
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) next_line(indent + 1);
      print(list[i], indent + 1, i + 1 == list.size() ? allowance + end.size() : 1);
    }
    append(out_, end);
  }

  void print_dict(const Dict& dict, size_t indent, size_t allowance) {
    append(out_, "{");
    const std::vector<const Dict::Entry*> entries = sorted(dict);
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) next_line(indent + 1);
      TextBuilder key(heap_);
      print_flat(key, entries[i]->key);
      append(key, ": ");
      const size_t width = count_characters(heap_, key.bytes());
      out_.append(key.finish());
      print(entries[i]->value, indent + 1 + width, i + 1 == entries.size() ? allowance + 1 : 1);
    }
    append(out_, "}");
  }

  Heap& heap_;
  TextBuilder out_;
};

}  // namespace

Value filter_pprint(SPATE_JINJA_PARAMETERS) {
  return PrettyPrinter(interpreter.heap()).run(subject);
}

}  // namespace spate::jinja
