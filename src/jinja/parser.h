// Source to syntax tree, by recursive descent over the grammar of Jinja 3.1.
#pragma once

#include <initializer_list>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "jinja/ast.h"
#include "jinja/limits.h"
#include "jinja/token.h"

namespace spate::jinja {

// Throws Failure.
Ast parse_template(std::string_view source, std::string name, const Limits& limits);

// parse_statements.cc has the tags, parse_expressions.cc the expressions.
class Parser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits) : tokens_(std::move(tokens)), limits_(limits) {
    for (const char* special : kSpecialNames) intern(special);
  }
  Body parse_all();
  std::vector<std::string> take_names() { return std::move(names_); }

 private:
  // Counts, while it lives, how deep the tree becomes: a level for each recursion of the parser into itself, and for
  // each link in a chain of operators, whose left operand is the chain so far.
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) {}
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { parser_.nesting_ -= n_; }
    void deepen() {
      ++n_;
      if (++parser_.nesting_ > parser_.limits_.max_nesting) parser_.fail_nesting();
    }

   private:
    Parser& parser_;
    int n_ = 0;
  };
  friend class Nesting;
  [[noreturn]] void fail_nesting() const;

  // ---- tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& look_ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  void skip() { at_ += at_ + 1 < tokens_.size(); }
  bool skip_operator(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view op);
  std::string expect_name();
  void expect(Token::Kind kind, std::string_view what);
  [[noreturn]] void fail_here(std::string_view wanted) const;
  Symbol intern(const std::string& name);

  // ---- statements
  struct Tag {
    std::string_view name;
    int line;
  };
  // Statements up to a tag with one of these names, which stays current (its `{%` is consumed).
  Body parse_body(std::initializer_list<std::string_view> ends, Tag tag);
  // The rest of an opening tag, and the body.
  Body parse_block_body(std::initializer_list<std::string_view> ends, Tag tag);
  void parse_tag(Body& body);
  Statement parse_if(int line);
  Statement parse_for(int line);
  Statement parse_set(int line);
  Statement parse_with(int line);
  Statement parse_macro(int line);
  Statement parse_call_block(int line);
  Statement parse_filter_block(int line);
  Statement parse_scoped(const std::string& tag, int line);
  void parse_print(Body& body, int line);
  void parse_signature(Callable& callable);
  void parse_callable_body(Callable& callable, std::string_view end, Tag tag);
  Target parse_target(bool allow_attribute);
  Target to_target(ExprPtr expression);

  // ---- expressions
  ExprPtr make(int line, decltype(Expr::node) node);
  ExprPtr parse_expression(bool with_conditional = true);
  // Several, separated by commas, are a tuple. `stop`: a name that ends it after a comma.
  ExprPtr parse_tuple(bool with_conditional, std::string_view stop = {}, bool in_parentheses = false,
                      bool targets_only = false);
  bool at_tuple_end(std::string_view stop) const;
  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_comparison();
  std::optional<CompareOp> take_compare_operator();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filters);
  ExprPtr parse_primary();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr expression, Nesting& nesting);
  ExprPtr parse_filters(ExprPtr expression, Nesting& nesting);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_bracketed(ExprPtr object, int line);
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_filter(ExprPtr subject);
  ExprPtr parse_filter_chain(bool with_pipe);
  ExprPtr parse_test(ExprPtr subject);
  std::string parse_dotted_name();
  CallArguments parse_arguments();
  void parse_argument(CallArguments& arguments);

  std::vector<Token> tokens_;
  const Limits& limits_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;  // around this place, within the same macro
  std::vector<std::string> names_;
  std::unordered_map<std::string, Symbol> symbols_;
  // The innermost macro or call block being parsed, to note which special names it reads.
  std::vector<Callable*> callables_;
};

}  // namespace spate::jinja
