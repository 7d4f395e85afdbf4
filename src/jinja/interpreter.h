// Walks the tree of one template once, with one set of values.
#pragma once

#include <ctime>
#include <optional>
#include <string_view>

#include "jinja/ast.h"
#include "jinja/heap.h"
#include "jinja/scope.h"

namespace spate::jinja {

class Interpreter {
 public:
  // context: the values that names stand for where the template defines none. All three outlive the interpreter.
  Interpreter(const Ast& ast, const Dict& context, const Limits& limits, const std::optional<std::tm>& now);

  // The output with the origin of its bytes. Throws Failure.
  std::pair<std::string, std::vector<Run>> render();
  // The line of the template that was evaluated last.
  int line() const { return line_; }

  // ---- for filters, tests, methods and functions
  Heap& heap() { return heap_; }
  const std::optional<std::tm>& now() const { return now_; }
  Value apply_filter(std::string_view name, const Value& subject, Arguments& arguments);
  bool apply_test(std::string_view name, const Value& subject, Arguments& arguments);
  Value call(const Value& callee, Arguments& arguments);
  // What a macro or call block renders to, called with these arguments.
  Value call_macro(const Callable& callable, const ScopePtr& closure, Arguments& arguments);
  // What the body of a recursive loop renders to, over other items. depth0: how deep it is.
  Value call_loop(const For& loop, const ScopePtr& outer, const Value& items, int depth0);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // ---- evaluate.cc
  Value evaluate(const Expr& expression);
  Value evaluate_node(const Literal& node);
  Value evaluate_node(const Name& node);
  Value evaluate_node(const Sequence& node);
  Value evaluate_node(const Mapping& node);
  Value evaluate_node(const GetAttribute& node);
  Value evaluate_node(const GetItem& node);
  Value evaluate_node(const GetSlice& node);
  Value evaluate_node(const Call& node);
  Value evaluate_node(const Filter& node);
  Value evaluate_node(const Test& node);
  Value evaluate_node(const Unary& node);
  Value evaluate_node(const Binary& node);
  Value evaluate_node(const Logic& node);
  Value evaluate_node(const Concat& node);
  Value evaluate_node(const Comparison& node);
  Value evaluate_node(const Conditional& node);
  Value evaluate_call(const Call& node, Value caller);
  Arguments evaluate_arguments(const CallArguments& arguments);
  void unpack_named(const Value& more, Arguments& arguments);
  Value look_up(Symbol symbol);

  // ---- execute.cc
  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow execute_node(const Data& node);
  Flow execute_node(const Print& node);
  Flow execute_node(const Evaluate& node);
  Flow execute_node(const If& node);
  Flow execute_node(const For& node);
  Flow execute_node(const Set& node);
  Flow execute_node(const SetBlock& node);
  Flow execute_node(const FilterBlock& node);
  Flow execute_node(const With& node);
  Flow execute_node(const Scoped& node);
  Flow execute_node(const Macro& node);
  Flow execute_node(const CallBlock& node);
  Flow execute_node(const Break& node);
  Flow execute_node(const Continue& node);
  Flow execute_in_scope(const Body& body, ScopePtr scope);
  void run_loop(const For& node, const Value& items, int depth0);
  ListPtr select_items(const For& node, const ListPtr& items);
  // What the body prints, in a scope of its own, after the filters.
  Value capture(const Body& body, const ExprPtr& filters, Flow& flow);
  void assign(const Target& target, Value value);
  void bind_parameters(const Callable& callable, Arguments& arguments);
  Value argument_or_default(const Parameter& parameter, Arguments& arguments);
  void bind_extra(const Callable& callable, Arguments& arguments);
  void print(const Value& value);
  ScopePtr new_scope(ScopePtr parent);

  Heap heap_;  // destroyed last: values account for themselves in it
  const Ast& ast_;
  const Dict& context_;
  const std::optional<std::tm>& now_;
  ScopePtr top_, scope_;
  TextBuilder* out_ = nullptr;  // where printing goes: the output, or a capture
  Value captured_;              // of the block whose filters are being evaluated
  int line_ = 1;
};

}  // namespace spate::jinja
