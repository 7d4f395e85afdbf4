// Functions that a template finds without defining them.
#include "base/utf8.h"
#include "jinja/filter_support.h"
#include "jinja/format.h"

namespace spate::jinja {

Value global_range(SPATE_JINJA_PARAMETERS) {
  const std::vector<Value>& given = arguments.all().positional;
  if (given.empty() || given.size() > 3 || !arguments.all().named.empty()) fail("'range' takes one to three integers");
  int64_t parts[3] = {0, 0, 1};
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].is_undefined()) given[i].fail_undefined();
    if (!given[i].integer()) fail("'range' takes integers, not '{}'", given[i].type_name());
    parts[given.size() == 1 ? 1 : i] = *given[i].integer();
  }
  const auto [start, stop, step] = parts;
  if (step == 0) fail("the step of 'range' cannot be zero");
  const bool is_empty = step > 0 ? start >= stop : start <= stop;
  // In unsigned arithmetic, which no distance between two integers overflows.
  const uint64_t distance = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                     : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
  const uint64_t n = is_empty ? 0 : (distance - 1) / stride + 1;
  const int64_t limit = interpreter.heap().limits().max_range_items;
  if (n > static_cast<uint64_t>(limit)) fail_limit("a range of {} items is longer than {}", n, limit);
  auto range = new_list(interpreter, List::Kind::kRange);
  range->display =
      step == 1 ? fmt::format("range({}, {})", start, stop) : fmt::format("range({}, {}, {})", start, stop, step);
  uint64_t at = static_cast<uint64_t>(start);
  for (uint64_t i = 0; i < n; ++i, at += static_cast<uint64_t>(step)) range->push(static_cast<int64_t>(at));
  return range;
}

namespace {
// dict() and namespace(): a mapping, or pairs, to begin with, and names.
DictPtr make_dict(Interpreter& interpreter, const BoundArguments& arguments) {
  Heap& heap = interpreter.heap();
  auto dict = std::make_shared<Dict>(&heap);
  const Arguments& all = arguments.all();
  if (all.positional.size() > 1) fail("'{}' takes one mapping at most", arguments.function());
  if (!all.positional.empty()) {
    const Value& first = all.positional[0];
    if (first.is_undefined()) first.fail_undefined();
    if (const Dict* other = first.dict()) {
      for (const Dict::Entry& entry : other->entries()) dict->set(heap, entry.key, entry.value);
    } else {
      const ListPtr pairs = items_of(heap, first);
      for (size_t i = 0; i < pairs->size(); ++i) {
        const ListPtr pair = items_of(heap, (*pairs)[i]);
        if (pair->size() != 2) fail("'{}' of a list needs pairs", arguments.function());
        dict->set(heap, (*pair)[0], (*pair)[1]);
      }
    }
  }
  for (const auto& [name, value] : all.named) dict->set(name, value);
  return dict;
}
}  // namespace

Value global_dict(SPATE_JINJA_PARAMETERS) {
  return make_dict(interpreter, arguments);
}

Value global_namespace(SPATE_JINJA_PARAMETERS) {
  auto space = std::make_shared<NamespaceObject>(make_dict(interpreter, arguments));
  interpreter.heap().keep(space);
  return space;
}

// The template's own refusal of a conversation (ErrorCode::kUsage).
Value global_raise_exception(SPATE_JINJA_PARAMETERS) {
  throw Failure{ErrorCode::kUsage, std::string(to_text(interpreter.heap(), arguments[0]).bytes())};
}

Value global_strftime_now(SPATE_JINJA_PARAMETERS) {
  if (!interpreter.now()) fail("'strftime_now' needs the time, and none was given");
  return format_time(interpreter.heap(), arguments.text(0), *interpreter.now());
}

Value global_lipsum(SPATE_JINJA_PARAMETERS) {
  fail("'lipsum' is not supported: a rendering must be the same each time");
}

// ---- objects with a state

namespace {

class Cycler final : public Object {
 public:
  explicit Cycler(ListPtr items) : items_(std::move(items)) {}
  std::string_view type_name() const override { return "Cycler"; }
  std::string display() const override { return "<Cycler>"; }
  std::optional<Value> attribute(Interpreter&, std::string_view name) override;
  Value current() const { return (*items_)[at_]; }
  Value next() {
    Value value = current();
    at_ = (at_ + 1) % items_->size();
    return value;
  }
  void reset() { at_ = 0; }

 private:
  const ListPtr items_;
  size_t at_ = 0;
};

class CyclerMethod final : public Object {
 public:
  CyclerMethod(std::shared_ptr<Cycler> cycler, bool is_next) : cycler_(std::move(cycler)), is_next_(is_next) {}
  std::string_view type_name() const override { return "method"; }
  std::string display() const override { return is_next_ ? "<method next>" : "<method reset>"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter&, Arguments& arguments) override {
    if (!arguments.positional.empty() || !arguments.named.empty()) fail("{} takes no arguments", display());
    if (is_next_) return cycler_->next();
    cycler_->reset();
    return None{};
  }

 private:
  const std::shared_ptr<Cycler> cycler_;
  const bool is_next_;
};

std::optional<Value> Cycler::attribute(Interpreter&, std::string_view name) {
  if (name == "current") return current();
  if (name != "next" && name != "reset") return std::nullopt;
  return std::make_shared<CyclerMethod>(std::static_pointer_cast<Cycler>(shared_from_this()), name == "next");
}

// Nothing the first time it is called, the separator from then on.
class Joiner final : public Object {
 public:
  explicit Joiner(Text separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  std::string display() const override { return "<Joiner>"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter&, Arguments& arguments) override {
    if (!arguments.positional.empty() || !arguments.named.empty()) fail("a joiner takes no arguments");
    return std::exchange(used_, true) ? separator_ : Text();
  }

 private:
  const Text separator_;
  bool used_ = false;
};

}  // namespace

Value global_cycler(SPATE_JINJA_PARAMETERS) {
  if (arguments.all().positional.empty() || !arguments.all().named.empty())
    fail("'cycler' needs items to cycle through");
  auto items = new_list(interpreter);
  for (const Value& item : arguments.all().positional) items->push(item);
  return std::make_shared<Cycler>(std::move(items));
}

Value global_joiner(SPATE_JINJA_PARAMETERS) {
  return std::make_shared<Joiner>(arguments.has(0) ? arguments.text(0) : literal(", "));
}

}  // namespace spate::jinja
