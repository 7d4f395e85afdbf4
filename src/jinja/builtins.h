// The tables of what a template can call by name: filters, tests, methods and functions. A row is one of filters.def,
// tests.def, methods.def or globals.def; its function gets what it was applied to and its arguments by position.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace spate::jinja {

// Arguments sorted into the parameters of a signature: names separated by blanks, a "?" after those that may be left
// out; "*" takes any arguments, as they are in all().
class BoundArguments {
 public:
  // Fails for too many, unknown or missing ones. What it is made of outlives it.
  BoundArguments(std::string_view function, std::string_view signature, const Arguments& arguments);

  bool has(size_t i) const { return slots_[i] != nullptr; }
  // As given, or none.
  const Value& operator[](size_t i) const;
  // Fail for another type, and for an Undefined with its reason.
  int64_t integer(size_t i, int64_t fallback = 0) const;
  bool flag(size_t i, bool fallback) const;
  Text text(size_t i) const;
  // Text, or nothing where it was left out or is none.
  std::optional<Text> optional_text(size_t i) const;
  std::optional<int64_t> optional_integer(size_t i) const;
  const Arguments& all() const { return arguments_; }
  std::string_view function() const { return function_; }

 private:
  size_t parameter(std::string_view name) const;
  [[noreturn]] void fail_type(size_t i, std::string_view wanted) const;

  static constexpr size_t kMaxParameters = 6;
  const std::string_view function_;
  const Arguments& arguments_;
  size_t n_ = 0;
  std::array<std::string_view, kMaxParameters> names_;
  std::array<const Value*, kMaxParameters> slots_{};
};

using Function = Value (*)(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);
using TestFunction = bool (*)(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);

struct FilterRow {
  std::string_view name, signature;
  Function function;
};
struct TestRow {
  std::string_view name, signature;
  TestFunction function;
};

// nullptr where there is none.
const FilterRow* find_filter(std::string_view name);
const TestRow* find_test(std::string_view name);
// A method of a string, list or dict, bound to it.
std::optional<Value> find_method(const Value& subject, std::string_view name);
// range, dict, namespace, raise_exception...
std::optional<Value> find_global(std::string_view name);

}  // namespace spate::jinja
