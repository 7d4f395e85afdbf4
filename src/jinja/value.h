// The values of a template: what Python's None, bool, int, float, str, list, tuple and dict are to Jinja2, plus
// Undefined and the objects of the language (functions, macros, loops, namespaces). Integers have 64 bits; beyond them
// an operation fails instead of growing.
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "jinja/text.h"

namespace spate::jinja {

class List;
class Dict;
class Object;
class Interpreter;
struct Arguments;
using ListPtr = std::shared_ptr<List>;
using DictPtr = std::shared_ptr<Dict>;
using ObjectPtr = std::shared_ptr<Object>;

struct None {};
// A name or attribute that is not there. It prints as nothing and is false; most other uses fail with the reason.
struct Undefined {
  std::shared_ptr<const std::string> reason;  // "'x' is undefined"
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  Value(None) : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  template <std::same_as<bool> T>
  Value(T value) : data_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T value) : data_(static_cast<int64_t>(value)) {}
  Value(double value) : data_(value) {}
  Value(Text value) : data_(std::move(value)) {}
  Value(ListPtr value) : data_(std::move(value)) {}
  Value(DictPtr value) : data_(std::move(value)) {}
  template <std::derived_from<Object> T>
  Value(std::shared_ptr<T> value) : data_(ObjectPtr(std::move(value))) {}
  template <typename T>
  Value(T*) = delete;  // would be a bool

  static Value undefined(std::string reason) {
    return Undefined{std::make_shared<const std::string>(std::move(reason))};
  }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  // nullptr where it is of another type. A bool is no int here; Value::integer takes both, as Python does.
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const double* real() const { return std::get_if<double>(&data_); }
  const Text* text() const { return std::get_if<Text>(&data_); }
  std::optional<int64_t> integer() const;
  std::optional<double> number() const;  // bool, int or float
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_number() const { return boolean() || is_integer() || real(); }
  List* list() const;  // and tuples, ranges, generators, views of a dict
  Dict* dict() const;
  Object* object() const;
  const ListPtr* list_ptr() const { return std::get_if<ListPtr>(&data_); }
  const DictPtr* dict_ptr() const { return std::get_if<DictPtr>(&data_); }
  const ObjectPtr* object_ptr() const { return std::get_if<ObjectPtr>(&data_); }
  template <typename T>
  T* object_as() const {
    return dynamic_cast<T*>(object());
  }

  // As Python calls the type: "str", "NoneType".
  std::string_view type_name() const;
  // The error of using an Undefined, with its reason.
  [[noreturn]] void fail_undefined() const;

  // Hands what it holds to the heap's graveyard (Heap::bury), where a container that goes leaves its elements.
  void bury_in(Heap* heap);

 private:
  std::variant<Undefined, None, bool, int64_t, double, Text, ListPtr, DictPtr, ObjectPtr> data_;
};

// A sequence of values of any of Python's kinds; they differ in what they print as and which operations they allow.
class List final : public Breakable {
 public:
  enum class Kind : uint8_t { kList, kTuple, kRange, kGenerator, kDictKeys, kDictValues, kDictItems };

  // heap: what accounts for it; nullptr for input values, which templates cannot change.
  explicit List(Heap* heap, Kind kind = Kind::kList) : charge_(heap), kind_(kind) { charge_.grow(sizeof(List)); }
  ~List() override;

  Kind kind() const { return kind_; }
  bool is_input() const { return charge_.heap() == nullptr; }
  const std::vector<Value>& items() const { return items_; }
  std::vector<Value>& mutable_items() { return items_; }
  size_t size() const { return items_.size(); }
  const Value& operator[](size_t i) const { return items_[i]; }
  void push(Value value);
  void push_back_all(const List& other);

  // What str() shows for a range.
  std::string display;
  // Items before this one are gone: a generator hands out each once.
  size_t n_consumed = 0;
  // Of a tuple made by groupby: `grouper` and `list` name its two items.
  bool is_group = false;
  // The heap has been told that it may become part of a cycle.
  bool kept = false;

  void break_references() override;

 private:
  MemoryCharge charge_;
  Kind kind_;
  std::vector<Value> items_;
};

// A dict: keys in the order of their insertion.
class Dict final : public Breakable {
 public:
  struct Entry {
    Value key, value;
    size_t hash;
  };

  explicit Dict(Heap* heap) : charge_(heap) { charge_.grow(sizeof(Dict)); }
  ~Dict() override;

  bool is_input() const { return charge_.heap() == nullptr; }
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }

  // nullptr where there is none. A key that cannot be one (a list) fails.
  const Value* find(Heap& heap, const Value& key) const;
  const Value* find(std::string_view key) const;
  // An existing key keeps its place and its own bytes.
  void set(Heap& heap, Value key, Value value);
  void set(Text key, Value value);
  bool erase(Heap& heap, const Value& key);
  void clear();

  bool kept = false;

  void break_references() override;

 private:
  template <typename Equal>
  size_t position(size_t hash, Equal&& equal) const;
  size_t position(std::string_view key, size_t hash) const;
  void set_at(size_t position, size_t hash, Value key, Value value);
  void index_entry(size_t i);
  void rebuild_index();

  MemoryCharge charge_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> index_;  // open addressing by hash: 1 + position in entries_, 0 for none; empty for small dicts
};

// Functions, macros, loops, namespaces and whatever else is no plain data.
class Object : public std::enable_shared_from_this<Object> {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  // What str() shows.
  virtual std::string display() const = 0;
  virtual bool is_callable() const { return false; }
  virtual Value call(Interpreter& interpreter, Arguments& arguments);
  // std::nullopt where there is no such attribute.
  virtual std::optional<Value> attribute(Interpreter& interpreter, std::string_view name);
};

// What a call, filter or test is given.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<Text, Value>> named;
};

// Python's rules of truth, equality, order and hashing. The heap pays for what they look at: a few lists that hold one
// another twice over take exponential time.
bool truthy(const Value& value);
bool equal(Heap& heap, const Value& a, const Value& b);
// Negative, zero or positive; fails for types that have no order, naming the operator that was asked for.
int compare(Heap& heap, const Value& a, const Value& b, std::string_view op);
// Fails for values that cannot be keys.
size_t hash_of(Heap& heap, const Value& value);

}  // namespace spate::jinja
