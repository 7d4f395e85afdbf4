#include "jinja/builtins.h"

#include <algorithm>
#include <unordered_map>

#include "base/utf8.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace spate::jinja {

#define SPATE_JINJA_FILTER(name, function, signature) \
  Value function(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);
#define SPATE_JINJA_METHOD(types, name, function, signature) \
  Value function(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);
#define SPATE_JINJA_GLOBAL(name, function, signature) \
  Value function(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);
#define SPATE_JINJA_TEST(name, function, signature) \
  bool function(Interpreter& interpreter, const Value& subject, const BoundArguments& arguments);
#include "jinja/filters.def"
#include "jinja/globals.def"
#include "jinja/methods.def"
#include "jinja/tests.def"
#undef SPATE_JINJA_FILTER
#undef SPATE_JINJA_METHOD
#undef SPATE_JINJA_GLOBAL
#undef SPATE_JINJA_TEST

namespace {

constexpr unsigned kNoType = 0, kStr = 1, kList = 2, kTuple = 4, kDict = 8, kInt = 16, kFloat = 32;

struct MethodRow {
  unsigned types;
  std::string_view name, signature;
  Function function;
};

#define SPATE_JINJA_FILTER(name, function, signature) {name, signature, function},
constexpr FilterRow kFilters[] = {
#include "jinja/filters.def"
};
#define SPATE_JINJA_TEST(name, function, signature) {name, signature, function},
constexpr TestRow kTests[] = {
#include "jinja/tests.def"
};
#define SPATE_JINJA_METHOD(types, name, function, signature) {types, name, signature, function},
constexpr MethodRow kMethods[] = {
#include "jinja/methods.def"
};
#define SPATE_JINJA_GLOBAL(name, function, signature) {name, signature, function},
constexpr FilterRow kGlobals[] = {
#include "jinja/globals.def"
};

template <typename Row, size_t N>
std::unordered_map<std::string_view, const Row*> by_name(const Row (&rows)[N]) {
  std::unordered_map<std::string_view, const Row*> map;
  for (const Row& row : rows) map.emplace(row.name, &row);
  return map;
}

template <typename Row>
const Row* find_row(const std::unordered_map<std::string_view, const Row*>& rows, std::string_view name) {
  const auto entry = rows.find(name);
  return entry == rows.end() ? nullptr : entry->second;
}

unsigned type_of(const Value& value) {
  if (value.text()) return kStr;
  if (value.dict()) return kDict;
  if (value.is_integer() || value.boolean()) return kInt;
  if (value.real()) return kFloat;
  const List* list = value.list();
  if (!list) return kNoType;
  if (list->kind() == List::Kind::kList) return kList;
  return list->kind() == List::Kind::kTuple ? kTuple : kNoType;
}

// A row of the tables as a value that can be called.
class BuiltinFunction final : public Object {
 public:
  BuiltinFunction(std::string_view name, std::string_view signature, Function function, Value subject)
      : name_(name), signature_(signature), function_(function), subject_(std::move(subject)) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  std::string display() const override { return fmt::format("<function {}>", name_); }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    if (subject_.text()) interpreter.heap().read(subject_.text()->size());
    return function_(interpreter, subject_, BoundArguments(name_, signature_, arguments));
  }

 private:
  const std::string_view name_, signature_;
  const Function function_;
  const Value subject_;
};

}  // namespace

const FilterRow* find_filter(std::string_view name) {
  static const auto rows = by_name(kFilters);
  return find_row(rows, name);
}

const TestRow* find_test(std::string_view name) {
  static const auto rows = by_name(kTests);
  return find_row(rows, name);
}

std::optional<Value> find_method(const Value& subject, std::string_view name) {
  const unsigned type = type_of(subject);
  if (type == kNoType) return std::nullopt;
  static const auto rows = [] {  // several types have methods of one name
    std::unordered_multimap<std::string_view, const MethodRow*> map;
    for (const MethodRow& row : kMethods) map.emplace(row.name, &row);
    return map;
  }();
  const auto [begin, end] = rows.equal_range(name);
  for (auto entry = begin; entry != end; ++entry) {
    const MethodRow& row = *entry->second;
    if ((row.types & type) != 0)
      return std::make_shared<BuiltinFunction>(row.name, row.signature, row.function, subject);
  }
  return std::nullopt;
}

std::optional<Value> find_global(std::string_view name) {
  static const auto rows = by_name(kGlobals);
  const FilterRow* row = find_row(rows, name);
  if (!row) return std::nullopt;
  return std::make_shared<BuiltinFunction>(row->name, row->signature, row->function, Value());
}

// ---- arguments

BoundArguments::BoundArguments(std::string_view function, std::string_view signature, const Arguments& arguments)
    : function_(function), arguments_(arguments) {
  if (signature == "*") return;
  std::array<bool, kMaxParameters> optional{};
  while (!signature.empty()) {
    const size_t end = std::min(signature.find(' '), signature.size());
    std::string_view name = signature.substr(0, end);
    signature.remove_prefix(std::min(end + 1, signature.size()));
    SPATE_CHECK(n_ < kMaxParameters, "'{}' has too many parameters", function);
    optional[n_] = name.ends_with('?');
    if (optional[n_]) name.remove_suffix(1);
    names_[n_++] = name;
  }
  if (arguments.positional.size() > n_)
    fail("'{}' takes at most {} argument(s), {} given", function, n_, arguments.positional.size());
  for (size_t i = 0; i < arguments.positional.size(); ++i) slots_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const size_t i = parameter(name.bytes());
    if (slots_[i]) fail("'{}' got multiple values for the argument '{}'", function, names_[i]);
    slots_[i] = &value;
  }
  for (size_t i = 0; i < n_; ++i)
    if (!slots_[i] && !optional[i]) fail("'{}' needs the argument '{}'", function, names_[i]);
}

size_t BoundArguments::parameter(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(n_), name);
  const size_t i = static_cast<size_t>(found - names_.begin());
  if (i == n_) fail("'{}' takes no argument named {}", function_, quote(name));
  return i;
}

const Value& BoundArguments::operator[](size_t i) const {
  static const Value none{None{}};
  return slots_[i] ? *slots_[i] : none;
}

void BoundArguments::fail_type(size_t i, std::string_view wanted) const {
  const Value& value = (*this)[i];
  if (value.is_undefined()) value.fail_undefined();
  fail("the argument '{}' of '{}' must be {}, not '{}'", names_[i], function_, wanted, value.type_name());
}

int64_t BoundArguments::integer(size_t i, int64_t fallback) const {
  if (!has(i)) return fallback;
  const std::optional<int64_t> value = (*this)[i].integer();
  if (!value) fail_type(i, "an integer");
  return *value;
}

bool BoundArguments::flag(size_t i, bool fallback) const {
  return has(i) ? truthy((*this)[i]) : fallback;
}

Text BoundArguments::text(size_t i) const {
  const Text* value = (*this)[i].text();
  if (!value) fail_type(i, "a string");
  return *value;
}

std::optional<Text> BoundArguments::optional_text(size_t i) const {
  if ((*this)[i].is_none()) return std::nullopt;
  return text(i);
}

std::optional<int64_t> BoundArguments::optional_integer(size_t i) const {
  if ((*this)[i].is_none()) return std::nullopt;
  return integer(i);
}

}  // namespace spate::jinja
