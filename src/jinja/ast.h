// A parsed template: statements that hold statements and expressions. Names are numbered, so that scopes compare
// integers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "jinja/value.h"

namespace spate::jinja {

using Symbol = uint32_t;  // index into Ast::names

// Names that the language itself defines have the first numbers.
enum : Symbol { kLoopSymbol, kCallerSymbol, kKwargsSymbol, kVarargsSymbol };
inline constexpr const char* kSpecialNames[] = {"loop", "caller", "kwargs", "varargs"};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;  // null where a part is optional and absent

// ---- expressions

struct Literal {
  Value value;  // a scalar
};
struct Name {
  Symbol symbol;
};
struct Sequence {
  std::vector<ExprPtr> items;
  bool is_tuple;
};
struct Mapping {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
struct GetAttribute {
  ExprPtr object;
  Text name;
};
struct GetItem {
  ExprPtr object, key;
};
struct GetSlice {
  ExprPtr object, begin, end, step;
};
struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<Text, ExprPtr>> named;
  ExprPtr more_positional, more_named;  // *args, **kwargs
};
struct Call {
  ExprPtr callee;
  CallArguments arguments;
};
struct Filter {
  ExprPtr subject;  // null at the head of the chain of a filter or set block: what the block rendered
  std::string name;
  CallArguments arguments;
};
struct Test {
  ExprPtr subject;
  std::string name;
  CallArguments arguments;
};
enum class UnaryOp : uint8_t { kNegative, kPositive, kNot };
struct Unary {
  UnaryOp op;
  ExprPtr operand;
};
enum class BinaryOp : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
struct Binary {
  BinaryOp op;
  ExprPtr left, right;
};
struct Logic {
  bool is_and;
  ExprPtr left, right;
};
struct Concat {
  std::vector<ExprPtr> parts;
};
enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
struct Comparison {
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;  // a < b < c
};
struct Conditional {
  ExprPtr condition, then, otherwise;  // otherwise may be null
};

struct Expr {
  int line;
  std::variant<Literal, Name, Sequence, Mapping, GetAttribute, GetItem, GetSlice, Call, Filter, Test, Unary, Binary,
               Logic, Concat, Comparison, Conditional>
      node;
};

// ---- statements

struct Statement;
using Body = std::vector<Statement>;

// What a `set` or `for` assigns to.
struct Target {
  struct NamespaceAttribute {
    Symbol object;
    Text name;
  };
  std::variant<Symbol, NamespaceAttribute, std::vector<Target>> to;
};

struct Parameter {
  Symbol symbol;
  Text name;
  ExprPtr fallback;  // null: required in so far as it is undefined when not given
};
// The part that macros and call blocks share.
struct Callable {
  std::string name;  // empty for a call block's
  std::vector<Parameter> parameters;
  // Whether the body reads these names; only then a call may pass what fills them.
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;
  Body body;
};

struct Data {
  Text text;
};
struct Print {
  ExprPtr value;
};
struct Evaluate {  // {% do %}
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExprPtr items, condition;
  bool recursive = false;
  Body body, otherwise;
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  ExprPtr filters;  // null, or a chain of Filter
  Body body;
};
struct FilterBlock {
  ExprPtr filters;
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};
// A body in a scope of its own: {% generation %}, {% autoescape false %}, {% block %}.
struct Scoped {
  bool from_top;  // it sees the template's top-level names only, as a block does
  Body body;
};
struct Macro {
  Symbol symbol;
  std::unique_ptr<Callable> callable;
};
struct CallBlock {
  ExprPtr call;  // holds a Call
  std::unique_ptr<Callable> callable;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Data, Print, Evaluate, If, For, Set, SetBlock, FilterBlock, With, Scoped, Macro, CallBlock, Break,
               Continue>
      node;
};

struct Ast {
  std::string name;                // of the template, for messages
  std::vector<std::string> names;  // by Symbol
  Body body;
};

}  // namespace spate::jinja
