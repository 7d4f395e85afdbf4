// Expressions.
#include "base/utf8.h"
#include "jinja/builtins.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace spate::jinja {

Value Interpreter::evaluate(const Expr& expression) {
  const DepthGuard guard(heap_);
  heap_.step();
  line_ = expression.line;
  return std::visit([this](const auto& node) { return evaluate_node(node); }, expression.node);
}

Value Interpreter::evaluate_node(const Literal& node) {
  return node.value;
}

Value Interpreter::evaluate_node(const Name& node) {
  return look_up(node.symbol);
}

// The template's own variables, then the values to render, then the language's functions.
Value Interpreter::look_up(Symbol symbol) {
  if (const Value* value = scope_->find(symbol)) return *value;
  const std::string& text = ast_.names[symbol];
  if (const Value* value = context_.find(text)) return *value;
  if (std::optional<Value> function = find_global(text)) return *std::move(function);
  return Value::undefined(fmt::format("{} is undefined", quote(text)));
}

Value Interpreter::evaluate_node(const Sequence& node) {
  auto list = std::make_shared<List>(&heap_, node.is_tuple ? List::Kind::kTuple : List::Kind::kList);
  for (const ExprPtr& item : node.items) list->push(evaluate(*item));
  return list;
}

Value Interpreter::evaluate_node(const Mapping& node) {
  auto dict = std::make_shared<Dict>(&heap_);
  for (const auto& [key, value] : node.entries) {
    Value evaluated_key = evaluate(*key);
    dict->set(heap_, std::move(evaluated_key), evaluate(*value));
  }
  return dict;
}

Value Interpreter::evaluate_node(const GetAttribute& node) {
  return get_attribute(*this, evaluate(*node.object), node.name);
}

Value Interpreter::evaluate_node(const GetItem& node) {
  const Value object = evaluate(*node.object);
  return get_item(*this, object, evaluate(*node.key));
}

Value Interpreter::evaluate_node(const GetSlice& node) {
  const Value object = evaluate(*node.object);
  const auto part = [this](const ExprPtr& expression) { return expression ? evaluate(*expression) : Value(None{}); };
  const Value begin = part(node.begin), end = part(node.end), step = part(node.step);
  return get_slice(heap_, object, begin, end, step);
}

// ---- calls

Value Interpreter::evaluate_node(const Call& node) {
  return evaluate_call(node, Value());
}

// caller: the body of a call block, handed to the macro by name; undefined elsewhere.
Value Interpreter::evaluate_call(const Call& node, Value caller) {
  const int line = line_;
  const Value callee = evaluate(*node.callee);
  Arguments arguments = evaluate_arguments(node.arguments);
  if (!caller.is_undefined()) arguments.named.emplace_back(Text("caller", Origin::kTemplate), std::move(caller));
  line_ = line;
  return call(callee, arguments);
}

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  if (callee.is_undefined()) callee.fail_undefined();
  if (!callee.object()) fail("'{}' object is not callable", callee.type_name());
  const ObjectPtr object = *callee.object_ptr();  // the call may drop the last other reference
  return object->call(*this, arguments);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments) {
  Arguments result;
  result.positional.reserve(arguments.positional.size());
  for (const ExprPtr& argument : arguments.positional) result.positional.push_back(evaluate(*argument));
  for (const auto& [name, value] : arguments.named) result.named.emplace_back(name, evaluate(*value));
  if (arguments.more_positional) {
    const ListPtr items = items_of(heap_, evaluate(*arguments.more_positional));
    heap_.step(static_cast<int64_t>(items->size()));
    for (const Value& item : items->items()) result.positional.push_back(item);
  }
  if (arguments.more_named) unpack_named(evaluate(*arguments.more_named), result);
  return result;
}

void Interpreter::unpack_named(const Value& more, Arguments& arguments) {
  if (more.is_undefined()) more.fail_undefined();
  const Dict* dict = more.dict();
  if (!dict) fail("the argument after ** must be a mapping, not '{}'", more.type_name());
  heap_.step(static_cast<int64_t>(dict->size()));
  for (const Dict::Entry& entry : dict->entries()) {
    if (!entry.key.text()) fail("keywords must be strings");
    for (const auto& [name, value] : arguments.named)
      if (name.bytes() == entry.key.text()->bytes())
        fail("got multiple values for the argument {}", quote(name.bytes()));
    arguments.named.emplace_back(*entry.key.text(), entry.value);
  }
}

Value Interpreter::evaluate_node(const Filter& node) {
  const int line = line_;
  const Value subject = node.subject ? evaluate(*node.subject) : captured_;
  Arguments arguments = evaluate_arguments(node.arguments);
  line_ = line;
  return apply_filter(node.name, subject, arguments);
}

Value Interpreter::evaluate_node(const Test& node) {
  const int line = line_;
  const Value subject = evaluate(*node.subject);
  Arguments arguments = evaluate_arguments(node.arguments);
  line_ = line;
  return apply_test(node.name, subject, arguments);
}

Value Interpreter::apply_filter(std::string_view name, const Value& subject, Arguments& arguments) {
  const FilterRow* row = find_filter(name);
  if (!row) fail("there is no filter named {}", quote(name));
  heap_.step();
  if (subject.text()) heap_.read(subject.text()->size());
  const BoundArguments bound(row->name, row->signature, arguments);
  return row->function(*this, subject, bound);
}

bool Interpreter::apply_test(std::string_view name, const Value& subject, Arguments& arguments) {
  const TestRow* row = find_test(name);
  if (!row) fail("there is no test named {}", quote(name));
  heap_.step();
  const BoundArguments bound(row->name, row->signature, arguments);
  return row->function(*this, subject, bound);
}

// ---- operators

Value Interpreter::evaluate_node(const Unary& node) {
  const int line = line_;
  const Value operand = evaluate(*node.operand);
  line_ = line;
  if (node.op == UnaryOp::kNot) return !truthy(operand);
  if (node.op == UnaryOp::kNegative) return negate(operand);
  if (operand.is_undefined()) operand.fail_undefined();
  if (!operand.is_number()) fail("unsupported operand type for +: '{}'", operand.type_name());
  return operand.boolean() ? Value(*operand.integer()) : operand;
}

Value Interpreter::evaluate_node(const Binary& node) {
  const int line = line_;
  const Value left = evaluate(*node.left), right = evaluate(*node.right);
  line_ = line;
  return apply_binary(heap_, node.op, left, right);
}

Value Interpreter::evaluate_node(const Logic& node) {
  Value left = evaluate(*node.left);
  return truthy(left) == node.is_and ? evaluate(*node.right) : std::move(left);
}

Value Interpreter::evaluate_node(const Concat& node) {
  TextBuilder out(heap_);
  for (const ExprPtr& part : node.parts) out.append(to_text(heap_, evaluate(*part)));
  return out.finish();
}

Value Interpreter::evaluate_node(const Comparison& node) {
  const int line = line_;
  Value left = evaluate(*node.first);
  for (const auto& [op, expression] : node.rest) {
    Value right = evaluate(*expression);
    line_ = line;
    if (!compare_values(heap_, op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_node(const Conditional& node) {
  const int line = line_;
  if (truthy(evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return Value::undefined(
      fmt::format("the inline if-expression on line {} evaluated to false and no else section was defined", line));
}

}  // namespace spate::jinja
