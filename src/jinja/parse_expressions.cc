// Expressions, from the weakest binding to the strongest: a if b else c; or; and; not; comparisons and `in`; + -; ~;
// * / // %; **; unary + -; filters, tests and calls; attributes and subscripts.
#include "base/utf8.h"
#include "jinja/failure.h"
#include "jinja/parser.h"

namespace spate::jinja {

namespace {
struct BinaryRow {
  std::string_view text;
  BinaryOp op;
};
constexpr BinaryRow kSums[] = {{"+", BinaryOp::kAdd}, {"-", BinaryOp::kSubtract}};
constexpr BinaryRow kProducts[] = {
    {"*", BinaryOp::kMultiply}, {"/", BinaryOp::kDivide}, {"//", BinaryOp::kFloorDivide}, {"%", BinaryOp::kModulo}};

template <size_t N>
const BinaryRow* find_row(const BinaryRow (&rows)[N], const Token& token) {
  for (const BinaryRow& row : rows)
    if (token.is_operator(row.text)) return &row;
  return nullptr;
}
}  // namespace

ExprPtr Parser::make(int line, decltype(Expr::node) node) {
  return std::make_unique<Expr>(Expr{line, std::move(node)});
}

ExprPtr Parser::parse_expression(bool with_conditional) {
  return with_conditional ? parse_conditional() : parse_or();
}

bool Parser::at_tuple_end(std::string_view stop) const {
  const Token& token = current();
  return token.kind == Token::Kind::kVariableEnd || token.kind == Token::Kind::kBlockEnd || token.is_operator(")") ||
         (!stop.empty() && token.is_name(stop));
}

ExprPtr Parser::parse_tuple(bool with_conditional, std::string_view stop, bool in_parentheses, bool targets_only) {
  const int line = current().line;
  Sequence tuple{.items = {}, .is_tuple = true};
  bool has_comma = false;
  while (!at_tuple_end(stop)) {
    tuple.items.push_back(targets_only ? parse_primary() : parse_expression(with_conditional));
    if (!skip_operator(",")) break;
    has_comma = true;
  }
  if (!has_comma && !tuple.items.empty()) return std::move(tuple.items[0]);
  if (!has_comma && !in_parentheses) fail_here("an expression");
  return make(line, std::move(tuple));
}

ExprPtr Parser::parse_conditional() {
  Nesting nesting(*this);
  const int line = current().line;
  ExprPtr value = parse_or();
  while (skip_name("if")) {
    nesting.deepen();
    ExprPtr condition = parse_or();
    ExprPtr otherwise = skip_name("else") ? parse_conditional() : nullptr;
    value = make(line, Conditional{std::move(condition), std::move(value), std::move(otherwise)});
  }
  return value;
}

ExprPtr Parser::parse_or() {
  Nesting nesting(*this);
  ExprPtr left = parse_and();
  for (int line = current().line; skip_name("or"); line = current().line) {
    nesting.deepen();
    left = make(line, Logic{false, std::move(left), parse_and()});
  }
  return left;
}

ExprPtr Parser::parse_and() {
  Nesting nesting(*this);
  ExprPtr left = parse_not();
  for (int line = current().line; skip_name("and"); line = current().line) {
    nesting.deepen();
    left = make(line, Logic{true, std::move(left), parse_not()});
  }
  return left;
}

ExprPtr Parser::parse_not() {
  if (!current().is_name("not")) return parse_comparison();
  Nesting nesting(*this);
  nesting.deepen();
  const int line = current().line;
  skip();
  return make(line, Unary{UnaryOp::kNot, parse_not()});
}

std::optional<CompareOp> Parser::take_compare_operator() {
  static constexpr std::pair<std::string_view, CompareOp> kRows[] = {
      {"==", CompareOp::kEqual},     {"!=", CompareOp::kNotEqual}, {"<", CompareOp::kLess},
      {"<=", CompareOp::kLessEqual}, {">", CompareOp::kGreater},   {">=", CompareOp::kGreaterEqual}};
  for (const auto& [text, op] : kRows)
    if (skip_operator(text)) return op;
  if (skip_name("in")) return CompareOp::kIn;
  if (!current().is_name("not") || !look_ahead().is_name("in")) return std::nullopt;
  skip();
  skip();
  return CompareOp::kNotIn;
}

ExprPtr Parser::parse_comparison() {
  const int line = current().line;
  ExprPtr first = parse_sum();
  Comparison comparison;
  while (const std::optional<CompareOp> op = take_compare_operator()) comparison.rest.emplace_back(*op, parse_sum());
  if (comparison.rest.empty()) return first;
  comparison.first = std::move(first);
  return make(line, std::move(comparison));
}

ExprPtr Parser::parse_sum() {
  Nesting nesting(*this);
  ExprPtr left = parse_concat();
  while (const BinaryRow* row = find_row(kSums, current())) {
    nesting.deepen();
    const int line = current().line;
    skip();
    left = make(line, Binary{row->op, std::move(left), parse_concat()});
  }
  return left;
}

ExprPtr Parser::parse_concat() {
  const int line = current().line;
  ExprPtr first = parse_product();
  if (!current().is_operator("~")) return first;
  Concat concat;
  concat.parts.push_back(std::move(first));
  while (skip_operator("~")) concat.parts.push_back(parse_product());
  return make(line, std::move(concat));
}

ExprPtr Parser::parse_product() {
  Nesting nesting(*this);
  ExprPtr left = parse_power();
  while (const BinaryRow* row = find_row(kProducts, current())) {
    nesting.deepen();
    const int line = current().line;
    skip();
    left = make(line, Binary{row->op, std::move(left), parse_power()});
  }
  return left;
}

// Binds to the left, unlike Python's: 2**3**2 is 64 in Jinja.
ExprPtr Parser::parse_power() {
  Nesting nesting(*this);
  ExprPtr left = parse_unary(true);
  for (int line = current().line; skip_operator("**"); line = current().line) {
    nesting.deepen();
    left = make(line, Binary{BinaryOp::kPower, std::move(left), parse_unary(true)});
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filters) {
  Nesting nesting(*this);
  nesting.deepen();
  const int line = current().line;
  ExprPtr expression;
  if (skip_operator("-"))
    expression = make(line, Unary{UnaryOp::kNegative, parse_unary(false)});
  else if (skip_operator("+"))
    expression = make(line, Unary{UnaryOp::kPositive, parse_unary(false)});
  else
    expression = parse_primary();
  expression = parse_postfix(std::move(expression), nesting);
  return with_filters ? parse_filters(std::move(expression), nesting) : std::move(expression);
}

ExprPtr Parser::parse_primary() {
  Nesting nesting(*this);
  nesting.deepen();
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case Token::Kind::kName: {
      const std::string name = expect_name();
      if (name == "true" || name == "True") return make(line, Literal{true});
      if (name == "false" || name == "False") return make(line, Literal{false});
      if (name == "none" || name == "None") return make(line, Literal{None{}});
      const Symbol symbol = intern(name);
      if (!callables_.empty()) {
        callables_.back()->takes_caller |= symbol == kCallerSymbol;
        callables_.back()->takes_kwargs |= symbol == kKwargsSymbol;
        callables_.back()->takes_varargs |= symbol == kVarargsSymbol;
      }
      return make(line, Name{symbol});
    }
    case Token::Kind::kString: {
      std::string text;
      for (; current().kind == Token::Kind::kString; skip()) text += current().text;
      return make(line, Literal{Text(std::move(text), Origin::kTemplate)});
    }
    case Token::Kind::kInteger: {
      const int64_t value = token.integer;
      skip();
      return make(line, Literal{value});
    }
    case Token::Kind::kFloat: {
      const double value = token.real;
      skip();
      return make(line, Literal{value});
    }
    default:
      break;
  }
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  if (!skip_operator("(")) fail_here("an expression");
  ExprPtr inner = parse_tuple(true, {}, /*in_parentheses=*/true);
  expect_operator(")");
  return inner;
}

ExprPtr Parser::parse_list() {
  const int line = current().line;
  expect_operator("[");
  Sequence list{.items = {}, .is_tuple = false};
  while (!current().is_operator("]")) {
    if (!list.items.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    list.items.push_back(parse_expression());
  }
  expect_operator("]");
  return make(line, std::move(list));
}

ExprPtr Parser::parse_dict() {
  const int line = current().line;
  expect_operator("{");
  Mapping mapping;
  while (!current().is_operator("}")) {
    if (!mapping.entries.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    ExprPtr key = parse_expression();
    expect_operator(":");
    mapping.entries.emplace_back(std::move(key), parse_expression());
  }
  expect_operator("}");
  return make(line, std::move(mapping));
}

ExprPtr Parser::parse_postfix(ExprPtr expression, Nesting& nesting) {
  for (;; nesting.deepen()) {
    if (current().is_operator(".") || current().is_operator("["))
      expression = parse_subscript(std::move(expression));
    else if (current().is_operator("("))
      expression = parse_call(std::move(expression));
    else
      return expression;
  }
}

ExprPtr Parser::parse_filters(ExprPtr expression, Nesting& nesting) {
  for (;; nesting.deepen()) {
    if (skip_operator("|"))
      expression = parse_filter(std::move(expression));
    else if (current().is_name("is"))
      expression = parse_test(std::move(expression));
    else if (current().is_operator("("))
      expression = parse_call(std::move(expression));
    else
      return expression;
  }
}

ExprPtr Parser::parse_subscript(ExprPtr object) {
  const int line = current().line;
  if (skip_operator("[")) return parse_bracketed(std::move(object), line);
  expect_operator(".");
  if (current().kind == Token::Kind::kInteger) {
    const int64_t index = current().integer;
    skip();
    return make(line, GetItem{std::move(object), make(line, Literal{index})});
  }
  if (current().kind != Token::Kind::kName) fail_here("a name or a number");
  return make(line, GetAttribute{std::move(object), Text(expect_name(), Origin::kTemplate)});
}

ExprPtr Parser::parse_bracketed(ExprPtr object, int line) {
  const auto at_part_end = [&] { return current().is_operator("]") || current().is_operator(":"); };
  ExprPtr begin = at_part_end() ? nullptr : parse_expression();
  if (begin && current().is_operator(",")) {  // x[1, 2]: the key is a tuple
    Sequence tuple{.items = {}, .is_tuple = true};
    tuple.items.push_back(std::move(begin));
    while (skip_operator(",")) tuple.items.push_back(parse_expression());
    begin = make(line, std::move(tuple));
  }
  if (skip_operator("]")) {
    if (!begin) fail_here("a subscript");
    return make(line, GetItem{std::move(object), std::move(begin)});
  }
  expect_operator(":");
  ExprPtr end = at_part_end() ? nullptr : parse_expression();
  ExprPtr step = skip_operator(":") && !at_part_end() ? parse_expression() : nullptr;
  expect_operator("]");
  return make(line, GetSlice{std::move(object), std::move(begin), std::move(end), std::move(step)});
}

ExprPtr Parser::parse_call(ExprPtr callee) {
  const int line = current().line;
  return make(line, Call{std::move(callee), parse_arguments()});
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_name();
  while (skip_operator(".")) name += "." + expect_name();
  return name;
}

ExprPtr Parser::parse_filter(ExprPtr subject) {
  const int line = current().line;
  Filter filter{.subject = std::move(subject), .name = parse_dotted_name(), .arguments = {}};
  if (current().is_operator("(")) filter.arguments = parse_arguments();
  return make(line, std::move(filter));
}

// Of a filter or set block: the first filter takes what the block rendered.
ExprPtr Parser::parse_filter_chain(bool with_pipe) {
  Nesting nesting(*this);
  if (with_pipe && !skip_operator("|")) return nullptr;
  ExprPtr chain = parse_filter(nullptr);
  for (; skip_operator("|"); nesting.deepen()) chain = parse_filter(std::move(chain));
  return chain;
}

ExprPtr Parser::parse_test(ExprPtr subject) {
  const int line = current().line;
  skip();  // is
  const bool negated = skip_name("not");
  Test test{.subject = std::move(subject), .name = parse_dotted_name(), .arguments = {}};
  const Token& next = current();
  if (next.is_operator("(")) {
    test.arguments = parse_arguments();
  } else if ((next.kind == Token::Kind::kName && !next.is_name("else") && !next.is_name("or") &&
              !next.is_name("and")) ||
             next.kind == Token::Kind::kString || next.kind == Token::Kind::kInteger ||
             next.kind == Token::Kind::kFloat || next.is_operator("[") || next.is_operator("{")) {
    if (next.is_name("is")) fail_syntax(next.line, "tests cannot be chained: use `and` between two `is`");
    Nesting nesting(*this);
    test.arguments.positional.push_back(parse_postfix(parse_primary(), nesting));
  }
  ExprPtr result = make(line, std::move(test));
  return negated ? make(line, Unary{UnaryOp::kNot, std::move(result)}) : std::move(result);
}

CallArguments Parser::parse_arguments() {
  expect_operator("(");
  CallArguments arguments;
  while (!current().is_operator(")")) {
    parse_argument(arguments);
    if (!current().is_operator(")")) expect_operator(",");
  }
  expect_operator(")");
  return arguments;
}

void Parser::parse_argument(CallArguments& arguments) {
  const int line = current().line;
  const auto require = [&](bool in_order) {
    if (!in_order) fail_syntax(line, "arguments of a call are out of order: positional, *list, named, **dict");
  };
  if (skip_operator("**")) {
    require(!arguments.more_named);
    arguments.more_named = parse_expression();
  } else if (skip_operator("*")) {
    require(!arguments.more_positional && !arguments.more_named);
    arguments.more_positional = parse_expression();
  } else if (current().kind == Token::Kind::kName && look_ahead().is_operator("=")) {
    require(!arguments.more_named);
    Text name(expect_name(), Origin::kTemplate);
    skip();
    arguments.named.emplace_back(std::move(name), parse_expression());
  } else {
    require(arguments.named.empty() && !arguments.more_positional && !arguments.more_named);
    arguments.positional.push_back(parse_expression());
  }
}

}  // namespace spate::jinja
