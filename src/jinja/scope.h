// The variables of a template, scope in scope; and the objects that hold on to scopes.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "jinja/ast.h"
#include "jinja/value.h"

namespace spate::jinja {

class Scope;
using ScopePtr = std::shared_ptr<Scope>;

class Scope final : public Breakable {
 public:
  Scope(Heap& heap, ScopePtr parent) : charge_(&heap), parent_(std::move(parent)) { charge_.grow(sizeof(Scope)); }
  ~Scope() override { break_references(); }

  // Here or further out; nullptr where it is not.
  const Value* find(Symbol symbol) const;
  void set(Symbol symbol, Value value);
  void break_references() override;
  bool kept = false;

 private:
  MemoryCharge charge_;
  ScopePtr parent_;
  std::vector<std::pair<Symbol, Value>> variables_;  // few: searched one by one
};

// Tells the heap that an object now refers to the scope, which may refer to the object.
void keep_scope(Heap& heap, const ScopePtr& scope);

class MacroObject final : public Object {
 public:
  // callable: part of the tree, which outlives the rendering.
  MacroObject(const Callable& callable, ScopePtr closure) : callable_(callable), closure_(std::move(closure)) {}
  std::string_view type_name() const override { return "Macro"; }
  std::string display() const override;
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override;
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;

 private:
  const Callable& callable_;
  const ScopePtr closure_;
};

// The variable `loop` of a for block.
class LoopObject final : public Object, public Breakable {
 public:
  LoopObject(const For& loop, ScopePtr outer, ListPtr items, int depth0)
      : loop_(loop), outer_(std::move(outer)), items_(std::move(items)), depth0_(depth0) {}

  // The items may grow while the loop runs.
  bool at_end() const { return index0_ >= items_->size(); }
  const Value& item() const { return (*items_)[index0_]; }
  void advance() { ++index0_; }

  void break_references() override { last_changed_.reset(); }
  std::string_view type_name() const override { return "LoopContext"; }
  std::string display() const override;
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override;
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;

 private:
  friend class LoopMethod;
  bool changed(Heap& heap, std::vector<Value> values);

  const For& loop_;
  const ScopePtr outer_;  // null unless recursive
  const ListPtr items_;
  const int depth0_;
  size_t index0_ = 0;
  std::optional<std::vector<Value>> last_changed_;
  bool kept_ = false;
};

// namespace(): the one kind of object whose attributes a template sets.
class NamespaceObject final : public Object, public Breakable {
 public:
  explicit NamespaceObject(DictPtr attributes) : attributes_(std::move(attributes)) {}
  std::string_view type_name() const override { return "Namespace"; }
  std::string display() const override { return "<Namespace>"; }
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;
  void set(Text name, Value value) { attributes_->set(std::move(name), std::move(value)); }
  const DictPtr& attributes() const { return attributes_; }
  void break_references() override { attributes_->break_references(); }

 private:
  const DictPtr attributes_;
};

}  // namespace spate::jinja
