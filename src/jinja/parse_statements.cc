// Tags and the bodies between them.
#include <algorithm>

#include "base/utf8.h"
#include "jinja/failure.h"
#include "jinja/parser.h"

namespace spate::jinja {

Ast parse_template(std::string_view source, std::string name, const Limits& limits) {
  if (source.size() > limits.max_source_bytes)
    fail_limit("the template has {} bytes, more than {}", source.size(), limits.max_source_bytes);
  Parser parser(tokenize(source), limits);
  Ast ast;
  ast.name = std::move(name);
  ast.body = parser.parse_all();
  ast.names = parser.take_names();
  return ast;
}

void Parser::fail_nesting() const {
  throw Failure{ErrorCode::kOutOfResources,
                fmt::format("expressions and blocks are nested deeper than {} levels", limits_.max_nesting),
                current().line};
}

// ---- tokens

bool Parser::skip_operator(std::string_view op) {
  if (!current().is_operator(op)) return false;
  skip();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  skip();
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) fail_here(fmt::format("'{}'", op));
}

std::string Parser::expect_name() {
  if (current().kind != Token::Kind::kName) fail_here("a name");
  std::string name = current().text;
  skip();
  return name;
}

void Parser::expect(Token::Kind kind, std::string_view what) {
  if (current().kind != kind) fail_here(what);
  skip();
}

void Parser::fail_here(std::string_view wanted) const {
  fail_syntax(current().line, "expected {}, found {}", wanted, current().describe());
}

Symbol Parser::intern(const std::string& name) {
  const auto [entry, is_new] = symbols_.emplace(name, static_cast<Symbol>(names_.size()));
  if (is_new) names_.push_back(name);
  return entry->second;
}

// ---- bodies

Body Parser::parse_all() {
  return parse_body({}, {});
}

Body Parser::parse_body(std::initializer_list<std::string_view> ends, Tag tag) {
  Nesting nesting(*this);
  nesting.deepen();
  Body body;
  for (;;) {
    const int line = current().line;
    switch (current().kind) {
      case Token::Kind::kData:
        body.push_back({line, Data{Text(current().text, Origin::kTemplate)}});
        skip();
        break;
      case Token::Kind::kVariableBegin:
        skip();
        body.push_back({line, Print{parse_tuple(true)}});
        expect(Token::Kind::kVariableEnd, "'}}'");
        break;
      case Token::Kind::kBlockBegin:
        skip();
        if (current().kind == Token::Kind::kName && std::find(ends.begin(), ends.end(), current().text) != ends.end())
          return body;
        parse_tag(body);
        expect(Token::Kind::kBlockEnd, "'%}'");
        break;
      default:
        if (ends.size() == 0) return body;
        fail_syntax(tag.line, "the {} block that begins here has no end: '{}' is missing", tag.name, *(ends.end() - 1));
    }
  }
}

Body Parser::parse_block_body(std::initializer_list<std::string_view> ends, Tag tag) {
  skip_operator(":");  // as Python would have it
  expect(Token::Kind::kBlockEnd, "'%}'");
  return parse_body(ends, tag);
}

void Parser::parse_tag(Body& body) {
  const int line = current().line;
  if (current().kind != Token::Kind::kName) fail_here("the name of a tag");
  const std::string tag = expect_name();
  if (tag == "if") return body.push_back(parse_if(line));
  if (tag == "for") return body.push_back(parse_for(line));
  if (tag == "set") return body.push_back(parse_set(line));
  if (tag == "with") return body.push_back(parse_with(line));
  if (tag == "macro") return body.push_back(parse_macro(line));
  if (tag == "call") return body.push_back(parse_call_block(line));
  if (tag == "filter") return body.push_back(parse_filter_block(line));
  if (tag == "generation" || tag == "autoescape" || tag == "block") return body.push_back(parse_scoped(tag, line));
  if (tag == "print") return parse_print(body, line);
  if (tag == "do") return body.push_back({line, Evaluate{parse_tuple(true)}});
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail_syntax(line, "'{}' stands outside of a loop", tag);
    if (tag == "break") return body.push_back({line, Break{}});
    return body.push_back({line, Continue{}});
  }
  if (tag == "include" || tag == "import" || tag == "from" || tag == "extends")
    fail_syntax(line, "'{}' is not supported: a template has no access to other files", tag);
  fail_syntax(line, "unknown tag {}", quote(tag, 40));
}

Statement Parser::parse_if(int line) {
  If node;
  for (;;) {
    ExprPtr condition = parse_tuple(false);
    Body body = parse_block_body({"elif", "else", "endif"}, {"if", line});
    node.branches.emplace_back(std::move(condition), std::move(body));
    const std::string end = expect_name();
    if (end == "elif") continue;
    if (end == "else") {
      node.otherwise = parse_block_body({"endif"}, {"if", line});
      skip();
    }
    return {line, std::move(node)};
  }
}

Statement Parser::parse_for(int line) {
  For node;
  ++loops_;
  node.target = to_target(parse_tuple(false, "in", false, /*targets_only=*/true));
  if (!skip_name("in")) fail_here("'in'");
  node.items = parse_tuple(false, "recursive");
  if (skip_name("if")) node.condition = parse_expression();
  node.recursive = skip_name("recursive");
  node.body = parse_block_body({"else", "endfor"}, {"for", line});
  --loops_;
  if (expect_name() == "else") {
    node.otherwise = parse_block_body({"endfor"}, {"for", line});
    skip();
  }
  return {line, std::move(node)};
}

Statement Parser::parse_set(int line) {
  Target target = parse_target(/*allow_attribute=*/true);
  if (skip_operator("=")) return {line, Set{std::move(target), parse_tuple(true)}};
  SetBlock node{.target = std::move(target), .filters = parse_filter_chain(/*with_pipe=*/true), .body = {}};
  node.body = parse_block_body({"endset"}, {"set", line});
  skip();
  return {line, std::move(node)};
}

Statement Parser::parse_with(int line) {
  With node;
  while (current().kind != Token::Kind::kBlockEnd) {
    if (!node.assignments.empty()) expect_operator(",");
    Target target = parse_target(/*allow_attribute=*/false);
    expect_operator("=");
    node.assignments.emplace_back(std::move(target), parse_expression());
  }
  node.body = parse_block_body({"endwith"}, {"with", line});
  skip();
  return {line, std::move(node)};
}

Statement Parser::parse_macro(int line) {
  Macro node;
  node.callable = std::make_unique<Callable>();
  node.callable->name = expect_name();
  node.symbol = intern(node.callable->name);
  parse_signature(*node.callable);
  parse_callable_body(*node.callable, "endmacro", {"macro", line});
  return {line, std::move(node)};
}

Statement Parser::parse_call_block(int line) {
  CallBlock node;
  node.callable = std::make_unique<Callable>();
  if (current().is_operator("(")) parse_signature(*node.callable);
  node.call = parse_expression();
  if (!std::holds_alternative<Call>(node.call->node)) fail_syntax(line, "a call block needs a call: {{% call f() %}}");
  parse_callable_body(*node.callable, "endcall", {"call", line});
  return {line, std::move(node)};
}

void Parser::parse_signature(Callable& callable) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!callable.parameters.empty()) expect_operator(",");
    const std::string name = expect_name();
    Parameter parameter{.symbol = intern(name), .name = Text(name, Origin::kTemplate), .fallback = nullptr};
    if (skip_operator("="))
      parameter.fallback = parse_expression();
    else if (!callable.parameters.empty() && callable.parameters.back().fallback)
      fail_here("a default, as the parameter before has one");
    callable.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

void Parser::parse_callable_body(Callable& callable, std::string_view end, Tag tag) {
  const int loops = std::exchange(loops_, 0);
  callables_.push_back(&callable);
  callable.body = parse_block_body({end}, tag);
  callables_.pop_back();
  loops_ = loops;
  skip();
  // A name that is read within a macro or call block inside this one counts for this one too, as in Jinja.
  if (callables_.empty()) return;
  callables_.back()->takes_caller |= callable.takes_caller;
  callables_.back()->takes_kwargs |= callable.takes_kwargs;
  callables_.back()->takes_varargs |= callable.takes_varargs;
}

Statement Parser::parse_filter_block(int line) {
  FilterBlock node{.filters = parse_filter_chain(/*with_pipe=*/false), .body = {}};
  node.body = parse_block_body({"endfilter"}, {"filter", line});
  skip();
  return {line, std::move(node)};
}

Statement Parser::parse_scoped(const std::string& tag, int line) {
  Scoped node{.from_top = false, .body = {}};
  std::string name;
  if (tag == "block") {
    name = expect_name();
    node.from_top = !skip_name("scoped");
    if (skip_name("required")) fail_syntax(line, "a required block is not supported: templates cannot extend others");
  }
  if (tag == "autoescape") {
    const ExprPtr value = parse_expression();
    const Literal* literal = std::get_if<Literal>(&value->node);
    if (!literal || truthy(literal->value)) fail_syntax(line, "autoescape is not supported: the output is no HTML");
  }
  const std::string_view end = tag == "generation"   ? std::string_view("endgeneration")
                               : tag == "autoescape" ? std::string_view("endautoescape")
                                                     : std::string_view("endblock");
  node.body = parse_block_body({end}, {end.substr(3), line});
  skip();
  if (tag == "block") skip_name(name);
  return {line, std::move(node)};
}

void Parser::parse_print(Body& body, int line) {
  for (bool first = true; current().kind != Token::Kind::kBlockEnd; first = false) {
    if (!first) expect_operator(",");
    body.push_back({line, Print{parse_expression()}});
  }
}

// ---- targets

Target Parser::parse_target(bool allow_attribute) {
  if (allow_attribute && current().kind == Token::Kind::kName && look_ahead().is_operator(".")) {
    const Symbol object = intern(expect_name());
    skip();
    return {Target::NamespaceAttribute{object, Text(expect_name(), Origin::kTemplate)}};
  }
  return to_target(parse_tuple(false, {}, false, /*targets_only=*/true));
}

Target Parser::to_target(ExprPtr expression) {
  if (const Name* name = std::get_if<Name>(&expression->node)) {
    if (name->symbol == kLoopSymbol && loops_ > 0)
      fail_syntax(expression->line, "'loop' is the loop's own variable and cannot be assigned to");
    return {name->symbol};
  }
  Sequence* tuple = std::get_if<Sequence>(&expression->node);
  if (!tuple || !tuple->is_tuple) fail_syntax(expression->line, "this cannot be assigned to");
  std::vector<Target> targets;
  for (ExprPtr& item : tuple->items) targets.push_back(to_target(std::move(item)));
  return {std::move(targets)};
}

}  // namespace spate::jinja
