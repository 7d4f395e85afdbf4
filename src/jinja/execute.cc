// Statements.
#include "base/utf8.h"
#include "jinja/builtins.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace spate::jinja {

Interpreter::Interpreter(const Ast& ast, const Dict& context, const Limits& limits, const std::optional<std::tm>& now)
    : heap_(limits), ast_(ast), context_(context), now_(now) {}

std::pair<std::string, std::vector<Run>> Interpreter::render() {
  TextBuilder out(heap_);
  out_ = &out;
  scope_ = top_ = new_scope(nullptr);
  execute(ast_.body);
  return out.finish_plain();
}

ScopePtr Interpreter::new_scope(ScopePtr parent) {
  return std::make_shared<Scope>(heap_, std::move(parent));
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  const DepthGuard guard(heap_);
  for (const Statement& statement : body)
    if (const Flow flow = execute(statement); flow != Flow::kNext) return flow;
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  heap_.step();
  line_ = statement.line;
  return std::visit([this](const auto& node) { return execute_node(node); }, statement.node);
}

namespace {
// Sets a variable while it lives. A Failure ends the rendering, but what unwinds on its way must still be in order.
template <typename T>
class Replaced {
 public:
  Replaced(T& variable, T value) : variable_(variable), saved_(std::exchange(variable, std::move(value))) {}
  ~Replaced() { variable_ = std::move(saved_); }
  Replaced(const Replaced&) = delete;
  Replaced& operator=(const Replaced&) = delete;

 private:
  T& variable_;
  T saved_;
};
}  // namespace

Interpreter::Flow Interpreter::execute_in_scope(const Body& body, ScopePtr scope) {
  const Replaced<ScopePtr> inner(scope_, std::move(scope));
  return execute(body);
}

void Interpreter::print(const Value& value) {
  const size_t limit = heap_.limits().max_output_bytes;
  const Text text = to_text(heap_, value);
  if (text.size() > limit || out_->size() > limit - text.size()) fail_limit("the output has more than {} bytes", limit);
  out_->append(text);
}

Interpreter::Flow Interpreter::execute_node(const Data& node) {
  print(node.text);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_node(const Print& node) {
  print(evaluate(*node.value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_node(const Evaluate& node) {
  evaluate(*node.value);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_node(const If& node) {
  for (const auto& [condition, body] : node.branches)
    if (truthy(evaluate(*condition))) return execute(body);
  return execute(node.otherwise);
}

// ---- loops

Interpreter::Flow Interpreter::execute_node(const For& node) {
  run_loop(node, evaluate(*node.items), 0);
  return Flow::kNext;
}

ListPtr Interpreter::select_items(const For& node, const ListPtr& items) {
  auto selected = std::make_shared<List>(&heap_, List::Kind::kGenerator);
  for (size_t i = 0; i < items->size(); ++i) {
    const Value item = (*items)[i];
    const Replaced<ScopePtr> inner(scope_, new_scope(scope_));
    assign(node.target, item);
    if (truthy(evaluate(*node.condition))) selected->push(item);
  }
  return selected;
}

void Interpreter::run_loop(const For& node, const Value& value, int depth0) {
  ListPtr items = items_of(heap_, value);
  if (node.condition) items = select_items(node, items);
  // Only a recursive loop needs its surroundings again.
  if (node.recursive) keep_scope(heap_, scope_);
  const auto loop = std::make_shared<LoopObject>(node, node.recursive ? scope_ : nullptr, items, depth0);
  bool completed = false;
  for (; !loop->at_end(); loop->advance()) {
    heap_.step();
    const Replaced<ScopePtr> inner(scope_, new_scope(scope_));
    scope_->set(kLoopSymbol, loop);
    assign(node.target, loop->item());
    const Flow flow = execute(node.body);
    completed |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  // As in Jinja, where no item got to the end of the body: there were none, or each met a `break` or `continue`.
  if (!completed) execute_in_scope(node.otherwise, new_scope(scope_));
}

Value Interpreter::call_loop(const For& loop, const ScopePtr& outer, const Value& items, int depth0) {
  const DepthGuard guard(heap_);
  TextBuilder out(heap_);
  const Replaced<TextBuilder*> captured(out_, &out);
  const Replaced<ScopePtr> inner(scope_, outer);
  run_loop(loop, items, depth0);
  return out.finish();
}

Interpreter::Flow Interpreter::execute_node(const Break&) {
  return Flow::kBreak;
}

Interpreter::Flow Interpreter::execute_node(const Continue&) {
  return Flow::kContinue;
}

// ---- assignments

void Interpreter::assign(const Target& target, Value value) {
  if (const Symbol* symbol = std::get_if<Symbol>(&target.to)) return scope_->set(*symbol, std::move(value));
  if (const auto* attribute = std::get_if<Target::NamespaceAttribute>(&target.to)) {
    const Value object = look_up(attribute->object);
    NamespaceObject* space = object.object_as<NamespaceObject>();
    if (!space) fail("cannot assign an attribute of {}, which is no namespace", quote(ast_.names[attribute->object]));
    return space->set(attribute->name, std::move(value));
  }
  const std::vector<Target>& targets = std::get<std::vector<Target>>(target.to);
  const ListPtr items = items_of(heap_, value);
  if (items->size() != targets.size()) fail("cannot unpack {} values into {} names", items->size(), targets.size());
  for (size_t i = 0; i < targets.size(); ++i) assign(targets[i], (*items)[i]);
}

Interpreter::Flow Interpreter::execute_node(const Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::kNext;
}

Value Interpreter::capture(const Body& body, const ExprPtr& filters, Flow& flow) {
  const Replaced<ScopePtr> inner(scope_, new_scope(scope_));
  Text text;
  {
    TextBuilder out(heap_);
    const Replaced<TextBuilder*> captured(out_, &out);
    flow = execute(body);
    text = out.finish();
  }
  if (!filters) return text;
  const Replaced<Value> subject(captured_, text);
  return evaluate(*filters);
}

Interpreter::Flow Interpreter::execute_node(const SetBlock& node) {
  Flow flow = Flow::kNext;
  Value value = capture(node.body, node.filters, flow);
  if (flow == Flow::kNext) assign(node.target, std::move(value));
  return flow;
}

Interpreter::Flow Interpreter::execute_node(const FilterBlock& node) {
  Flow flow = Flow::kNext;
  const Value value = capture(node.body, node.filters, flow);
  if (flow == Flow::kNext) print(value);
  return flow;
}

Interpreter::Flow Interpreter::execute_node(const With& node) {
  const ScopePtr inner = new_scope(scope_);
  for (const auto& [target, expression] : node.assignments) {
    Value value = evaluate(*expression);  // sees the variables outside
    const Replaced<ScopePtr> replaced(scope_, inner);
    assign(target, std::move(value));
  }
  return execute_in_scope(node.body, inner);
}

Interpreter::Flow Interpreter::execute_node(const Scoped& node) {
  return execute_in_scope(node.body, new_scope(node.from_top ? top_ : scope_));
}

// ---- macros

Interpreter::Flow Interpreter::execute_node(const Macro& node) {
  keep_scope(heap_, scope_);
  scope_->set(node.symbol, std::make_shared<MacroObject>(*node.callable, scope_));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_node(const CallBlock& node) {
  keep_scope(heap_, scope_);
  const Value caller = std::make_shared<MacroObject>(*node.callable, scope_);
  print(evaluate_call(std::get<Call>(node.call->node), caller));
  return Flow::kNext;
}

Value Interpreter::call_macro(const Callable& callable, const ScopePtr& closure, Arguments& arguments) {
  const DepthGuard guard(heap_);
  TextBuilder out(heap_);
  const Replaced<ScopePtr> inner(scope_, new_scope(closure));
  bind_parameters(callable, arguments);
  const Replaced<TextBuilder*> captured(out_, &out);
  execute(callable.body);
  return out.finish();
}

namespace {
// The argument of that name, taken away; the fallback where there is none.
Value take_named(Arguments& arguments, std::string_view name, Value fallback) {
  for (auto argument = arguments.named.begin(); argument != arguments.named.end(); ++argument) {
    if (argument->first.bytes() != name) continue;
    Value value = std::move(argument->second);
    arguments.named.erase(argument);
    return value;
  }
  return fallback;
}

bool has_named(const Arguments& arguments, std::string_view name) {
  for (const auto& argument : arguments.named)
    if (argument.first.bytes() == name) return true;
  return false;
}
}  // namespace

Value Interpreter::argument_or_default(const Parameter& parameter, Arguments& arguments) {
  const std::string_view name = parameter.name.bytes();
  heap_.step(static_cast<int64_t>(arguments.named.size()));  // they are searched one by one
  if (parameter.fallback && !has_named(arguments, name)) return evaluate(*parameter.fallback);
  return take_named(arguments, name, Value::undefined(fmt::format("parameter {} was not provided", quote(name))));
}

// Positional arguments first, then by name, then the defaults, which see the parameters before them.
void Interpreter::bind_parameters(const Callable& callable, Arguments& arguments) {
  size_t n_taken = 0;
  bool has_caller = false;
  for (const Parameter& parameter : callable.parameters) {
    has_caller |= parameter.symbol == kCallerSymbol;
    if (n_taken < arguments.positional.size())
      scope_->set(parameter.symbol, std::move(arguments.positional[n_taken++]));
    else
      scope_->set(parameter.symbol, argument_or_default(parameter, arguments));
  }
  if (callable.takes_caller && !has_caller)
    scope_->set(kCallerSymbol, take_named(arguments, "caller", Value::undefined("no caller is defined")));
  arguments.positional.erase(arguments.positional.begin(),
                             arguments.positional.begin() + static_cast<std::ptrdiff_t>(n_taken));
  bind_extra(callable, arguments);
}

// What is left over goes to kwargs and varargs where the body reads those, and is an error elsewhere.
void Interpreter::bind_extra(const Callable& callable, Arguments& arguments) {
  const std::string described = callable.name.empty() ? "caller" : fmt::format("macro '{}'", callable.name);
  if (callable.takes_kwargs) {
    auto kwargs = std::make_shared<Dict>(&heap_);
    for (auto& [name, value] : arguments.named) kwargs->set(name, std::move(value));
    scope_->set(kKwargsSymbol, std::move(kwargs));
  } else if (!arguments.named.empty()) {
    fail("{} takes no keyword argument {}", described, quote(arguments.named[0].first.bytes()));
  }
  if (callable.takes_varargs) {
    auto varargs = std::make_shared<List>(&heap_, List::Kind::kTuple);
    for (Value& value : arguments.positional) varargs->push(std::move(value));
    scope_->set(kVarargsSymbol, std::move(varargs));
  } else if (!arguments.positional.empty()) {
    fail("{} takes not more than {} argument(s)", described, callable.parameters.size());
  }
}

}  // namespace spate::jinja
