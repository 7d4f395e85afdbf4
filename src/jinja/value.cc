#include "jinja/value.h"

#include <bit>

namespace spate::jinja {

std::optional<int64_t> Value::integer() const {
  if (const int64_t* value = std::get_if<int64_t>(&data_)) return *value;
  if (const bool* value = boolean()) return *value ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const double* value = real()) return *value;
  if (const std::optional<int64_t> value = integer()) return static_cast<double>(*value);
  return std::nullopt;
}

List* Value::list() const {
  const ListPtr* pointer = list_ptr();
  return pointer ? pointer->get() : nullptr;
}

Dict* Value::dict() const {
  const DictPtr* pointer = dict_ptr();
  return pointer ? pointer->get() : nullptr;
}

Object* Value::object() const {
  const ObjectPtr* pointer = object_ptr();
  return pointer ? pointer->get() : nullptr;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (boolean()) return "bool";
  if (is_integer()) return "int";
  if (real()) return "float";
  if (text()) return "str";
  if (dict()) return "dict";
  if (const Object* o = object()) return o->type_name();
  switch (list()->kind()) {
    case List::Kind::kList:
      return "list";
    case List::Kind::kTuple:
      return "tuple";
    case List::Kind::kRange:
      return "range";
    case List::Kind::kGenerator:
      return "generator";
    case List::Kind::kDictKeys:
      return "dict_keys";
    case List::Kind::kDictValues:
      return "dict_values";
    case List::Kind::kDictItems:
      return "dict_items";
  }
  SPATE_CHECK(false, "a list of no kind");
}

void Value::fail_undefined() const {
  const Undefined* undefined = std::get_if<Undefined>(&data_);
  fail("{}", undefined && undefined->reason ? *undefined->reason : "a value is undefined");
}

void Value::bury_in(Heap* heap) {
  if (!heap) return;
  std::visit(
      [&](auto& held) {
        if constexpr (std::is_convertible_v<decltype(held), std::shared_ptr<void>>) heap->bury(std::move(held));
      },
      data_);
}

// ---- lists

List::~List() {
  break_references();
}

void List::break_references() {
  std::vector<Value> items = std::move(items_);
  items_.clear();
  for (Value& item : items) item.bury_in(charge_.heap());
}

void List::push(Value value) {
  if (Heap* heap = charge_.heap()) {
    if (static_cast<int64_t>(items_.size()) >= heap->limits().max_items)
      fail_limit("a list has more than {} items", heap->limits().max_items);
    heap->step();
    charge_.grow(sizeof(Value));
  }
  items_.push_back(std::move(value));
}

void List::push_back_all(const List& other) {
  const size_t n = other.size();  // once: the other may be this one
  for (size_t i = 0; i < n; ++i) push(other[i]);
}

// ---- dicts

namespace {
constexpr size_t kNotThere = static_cast<size_t>(-1);
constexpr size_t kMaxUnindexed = 8;  // entries that are searched one by one

// Where the search of a hash begins in an index of 2^n slots. Integers hash to themselves; multiples of a power of two
// must not all begin in the same slot.
size_t first_slot(size_t hash, size_t n_slots) {
  return (hash * 0x9E3779B97F4A7C15u) >> (64 - std::countr_zero(n_slots));
}

// Keys can be chosen so that their searches meet all the same.
void pay_for_probes(Heap* heap, size_t n_probes) {
  constexpr size_t kUsual = 8;
  if (heap && n_probes > kUsual) heap->step(static_cast<int64_t>(n_probes));
}
}  // namespace

Dict::~Dict() {
  break_references();
}

void Dict::break_references() {
  std::vector<Entry> entries = std::move(entries_);
  entries_.clear();
  index_.clear();
  for (Entry& entry : entries) {
    entry.key.bury_in(charge_.heap());
    entry.value.bury_in(charge_.heap());
  }
}

template <typename Equal>
size_t Dict::position(size_t hash, Equal&& same_key) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].hash == hash && same_key(entries_[i].key)) return i;
    return kNotThere;
  }
  const size_t mask = index_.size() - 1;
  size_t n_probes = 0, found = kNotThere;
  for (size_t slot = first_slot(hash, index_.size()); index_[slot] != 0; slot = (slot + 1) & mask, ++n_probes) {
    const Entry& entry = entries_[index_[slot] - 1];
    if (entry.hash != hash || !same_key(entry.key)) continue;
    found = index_[slot] - 1;
    break;
  }
  pay_for_probes(charge_.heap(), n_probes);
  return found;
}

size_t Dict::position(std::string_view key, size_t hash) const {
  return position(hash, [&](const Value& other) { return other.text() && other.text()->bytes() == key; });
}

const Value* Dict::find(Heap& heap, const Value& key) const {
  const size_t i = position(hash_of(heap, key), [&](const Value& other) { return equal(heap, other, key); });
  return i == kNotThere ? nullptr : &entries_[i].value;
}

const Value* Dict::find(std::string_view key) const {
  const size_t i = position(key, std::hash<std::string_view>()(key));
  return i == kNotThere ? nullptr : &entries_[i].value;
}

void Dict::set(Heap& heap, Value key, Value value) {
  const size_t hash = hash_of(heap, key);
  const size_t i = position(hash, [&](const Value& other) { return equal(heap, other, key); });
  set_at(i, hash, std::move(key), std::move(value));
}

void Dict::set(Text key, Value value) {
  const size_t hash = std::hash<std::string_view>()(key.bytes());
  const size_t i = position(key.bytes(), hash);
  set_at(i, hash, std::move(key), std::move(value));
}

void Dict::set_at(size_t i, size_t hash, Value key, Value value) {
  if (i != kNotThere) {
    entries_[i].value = std::move(value);
    return;
  }
  if (Heap* heap = charge_.heap(); heap && static_cast<int64_t>(entries_.size()) >= heap->limits().max_items)
    fail_limit("a dict has more than {} items", heap->limits().max_items);
  charge_.grow(sizeof(Entry) + 2 * sizeof(uint32_t));
  entries_.push_back({std::move(key), std::move(value), hash});
  if (entries_.size() * 2 > index_.size() && entries_.size() > kMaxUnindexed)
    rebuild_index();
  else if (!index_.empty())
    index_entry(entries_.size() - 1);
}

bool Dict::erase(Heap& heap, const Value& key) {
  const size_t i = position(hash_of(heap, key), [&](const Value& other) { return equal(heap, other, key); });
  if (i == kNotThere) return false;
  heap.step(static_cast<int64_t>(entries_.size()));
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
  rebuild_index();
  return true;
}

void Dict::clear() {
  break_references();
}

void Dict::index_entry(size_t i) {
  const size_t mask = index_.size() - 1;
  size_t slot = first_slot(entries_[i].hash, index_.size()), n_probes = 0;
  for (; index_[slot] != 0; slot = (slot + 1) & mask) ++n_probes;
  index_[slot] = static_cast<uint32_t>(i + 1);
  pay_for_probes(charge_.heap(), n_probes);
}

void Dict::rebuild_index() {
  index_.clear();
  if (entries_.size() <= kMaxUnindexed) return;
  size_t n_slots = 16;
  while (n_slots < entries_.size() * 4) n_slots *= 2;
  index_.resize(n_slots);
  for (size_t i = 0; i < entries_.size(); ++i) index_entry(i);
}

// ---- objects

Value Object::call(Interpreter&, Arguments&) {
  fail("'{}' object is not callable", type_name());
}

std::optional<Value> Object::attribute(Interpreter&, std::string_view) {
  return std::nullopt;
}

}  // namespace spate::jinja
