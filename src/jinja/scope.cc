#include "jinja/scope.h"

#include "base/utf8.h"
#include "jinja/builtins.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace spate::jinja {

const Value* Scope::find(Symbol symbol) const {
  for (const Scope* scope = this; scope; scope = scope->parent_.get())
    for (const auto& [name, value] : scope->variables_)
      if (name == symbol) return &value;
  return nullptr;
}

void Scope::set(Symbol symbol, Value value) {
  for (auto& [name, old] : variables_) {
    if (name != symbol) continue;
    old = std::move(value);
    return;
  }
  charge_.grow(sizeof(variables_[0]));
  variables_.emplace_back(symbol, std::move(value));
}

void Scope::break_references() {
  std::vector<std::pair<Symbol, Value>> variables = std::move(variables_);
  variables_.clear();
  for (auto& [name, value] : variables) value.bury_in(charge_.heap());
}

void keep_scope(Heap& heap, const ScopePtr& scope) {
  if (std::exchange(scope->kept, true)) return;
  heap.keep(scope);
}

// ---- macros

std::string MacroObject::display() const {
  return callable_.name.empty() ? "<Macro anonymous>" : fmt::format("<Macro '{}'>", callable_.name);
}

Value MacroObject::call(Interpreter& interpreter, Arguments& arguments) {
  return interpreter.call_macro(callable_, closure_, arguments);
}

std::optional<Value> MacroObject::attribute(Interpreter& interpreter, std::string_view name) {
  if (name == "name") return callable_.name.empty() ? Value(None{}) : Text(callable_.name, Origin::kTemplate);
  if (name == "catch_kwargs") return callable_.takes_kwargs;
  if (name == "catch_varargs") return callable_.takes_varargs;
  if (name == "caller") return callable_.takes_caller;
  if (name != "arguments") return std::nullopt;
  auto names = std::make_shared<List>(&interpreter.heap(), List::Kind::kTuple);
  for (const Parameter& parameter : callable_.parameters) names->push(parameter.name);
  return names;
}

// ---- loops

std::string LoopObject::display() const {
  return fmt::format("<LoopContext {}/{}>", index0_ + 1, items_->size());
}

Value LoopObject::call(Interpreter& interpreter, Arguments& arguments) {
  if (!loop_.recursive) fail("the loop must be marked 'recursive' to be called");
  if (arguments.positional.size() != 1 || !arguments.named.empty())
    fail("loop() takes the items to loop over, and no more");
  return interpreter.call_loop(loop_, outer_, arguments.positional[0], depth0_ + 1);
}

bool LoopObject::changed(Heap& heap, std::vector<Value> values) {
  if (!std::exchange(kept_, true)) heap.keep(std::static_pointer_cast<LoopObject>(shared_from_this()));
  bool same = last_changed_ && last_changed_->size() == values.size();
  for (size_t i = 0; same && i < values.size(); ++i) same = equal(heap, (*last_changed_)[i], values[i]);
  last_changed_ = std::move(values);
  return !same;
}

// loop.cycle and loop.changed.
class LoopMethod final : public Object {
 public:
  LoopMethod(std::shared_ptr<LoopObject> loop, bool is_cycle) : loop_(std::move(loop)), is_cycle_(is_cycle) {}
  std::string_view type_name() const override { return "method"; }
  std::string display() const override { return is_cycle_ ? "<method loop.cycle>" : "<method loop.changed>"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    std::vector<Value>& values = arguments.positional;
    if (!arguments.named.empty()) fail("{} takes no named arguments", display());
    if (is_cycle_) {
      if (values.empty()) fail("loop.cycle needs values to cycle through");
      return values[loop_->index0_ % values.size()];
    }
    return loop_->changed(interpreter.heap(), std::move(values));
  }

 private:
  const std::shared_ptr<LoopObject> loop_;
  const bool is_cycle_;
};

std::optional<Value> LoopObject::attribute(Interpreter&, std::string_view name) {
  const int64_t index0 = static_cast<int64_t>(index0_), length = static_cast<int64_t>(items_->size());
  if (name == "index") return index0 + 1;
  if (name == "index0") return index0;
  if (name == "revindex") return length - index0;
  if (name == "revindex0") return length - index0 - 1;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 + 1 >= length;
  if (name == "length") return length;
  if (name == "depth") return depth0_ + 1;
  if (name == "depth0") return depth0_;
  if (name == "previtem") return index0 > 0 ? (*items_)[index0_ - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index0 + 1 < length ? (*items_)[index0_ + 1] : Value::undefined("there is no next item");
  if (name != "cycle" && name != "changed") return std::nullopt;
  return std::make_shared<LoopMethod>(std::static_pointer_cast<LoopObject>(shared_from_this()), name == "cycle");
}

// ---- namespaces

std::optional<Value> NamespaceObject::attribute(Interpreter&, std::string_view name) {
  const Value* value = attributes_->find(name);
  return value ? std::optional<Value>(*value) : std::nullopt;
}

}  // namespace spate::jinja
