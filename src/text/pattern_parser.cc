#include "text/pattern_parser.h"

#include <optional>

#include "base/utf8.h"

namespace spate {

namespace {

using Kind = PatternNode::Kind;

PatternNode set_node(CodepointSet set) {
  PatternNode node;
  node.kind = Kind::kSet;
  node.set = std::move(set);
  return node;
}

// An ASCII letter with its other case and the two code points outside ASCII that fold to one (long s, Kelvin sign).
CodepointSet case_folded(char32_t c) {
  std::vector<CodepointRange> ranges = {{c, c}};
  const char32_t lower = c | 0x20;
  if (lower >= 'a' && lower <= 'z') {
    ranges.push_back({lower, lower});
    ranges.push_back({lower - 0x20, lower - 0x20});
    if (lower == 's') ranges.push_back({0x17F, 0x17F});
    if (lower == 'k') ranges.push_back({0x212A, 0x212A});
  }
  return CodepointSet(std::move(ranges));
}

class Parser {
 public:
  explicit Parser(std::string_view expression) : expression_(expression) {
    for (std::string_view rest = expression; !rest.empty();) {
      const DecodedUtf8 c = decode_utf8(rest);
      input_.push_back(c.codepoint);
      rest.remove_prefix(c.n_bytes);
    }
  }

  Result<PatternNode> parse() {
    SPATE_TRY(PatternNode node, choice());
    if (!at_end()) return error("unbalanced )");
    return node;
  }

 private:
  bool at_end() const { return at_ == input_.size(); }
  bool peek(char32_t c, size_t ahead = 0) const { return at_ + ahead < input_.size() && input_[at_ + ahead] == c; }
  bool accept(std::string_view ascii) {
    for (size_t i = 0; i < ascii.size(); ++i)
      if (!peek(static_cast<unsigned char>(ascii[i]), i)) return false;
    at_ += ascii.size();
    return true;
  }
  Error error(std::string_view what) const {
    return Error::usage(fmt::format("pattern '{}': {} at character {}", expression_, what, at_));
  }

  Result<PatternNode> choice() {
    PatternNode node;
    node.kind = Kind::kChoice;
    do {
      SPATE_TRY(PatternNode branch, sequence());
      node.children.push_back(std::move(branch));
    } while (accept("|"));
    if (node.children.size() == 1) return std::move(node.children[0]);
    return node;
  }

  Result<PatternNode> sequence() {
    PatternNode node;
    while (!at_end() && !peek('|') && !peek(')')) {
      SPATE_TRY(PatternNode part, atom());
      SPATE_TRY(part, quantified(std::move(part)));
      node.children.push_back(std::move(part));
    }
    return node;
  }

  Result<PatternNode> atom() {
    if (accept("$")) return look(Kind::kNotAhead, CodepointSet::all());
    if (accept("(?=")) return lookahead(Kind::kAhead);
    if (accept("(?!")) return lookahead(Kind::kNotAhead);
    if (accept("(?i:")) return group(true);
    if (accept("(?:")) return group(ignore_case_);
    if (accept("(?")) return error("unsupported group");
    if (accept("(")) return group(ignore_case_);
    if (peek('.') || peek('^') || peek('*') || peek('+') || peek('?') || peek('{'))
      return error("unsupported or misplaced operator");
    SPATE_TRY(CodepointSet set, one_character());
    return set_node(std::move(set));
  }

  static Result<PatternNode> look(Kind kind, CodepointSet set) {
    PatternNode node = set_node(std::move(set));
    node.kind = kind;
    return node;
  }

  Result<PatternNode> lookahead(Kind kind) {
    SPATE_TRY(CodepointSet set, one_character());
    if (!accept(")")) return error("a lookahead of more than one character");
    return look(kind, std::move(set));
  }

  Result<PatternNode> group(bool ignore_case) {
    const bool outer = std::exchange(ignore_case_, ignore_case);
    SPATE_TRY(PatternNode node, choice());
    ignore_case_ = outer;
    if (!accept(")")) return error("missing )");
    return node;
  }

  Result<PatternNode> quantified(PatternNode child) {
    int at_least = 1, at_most = 1;
    if (accept("?")) {
      at_least = 0;
    } else if (accept("*")) {
      at_least = 0;
      at_most = PatternNode::kUnbounded;
    } else if (accept("+")) {
      at_most = PatternNode::kUnbounded;
    } else if (accept("{")) {
      SPATE_TRY(at_least, number());
      at_most = at_least;
      if (accept(",")) {
        SPATE_TRY(at_most, number());
      }
      if (!accept("}") || at_most < at_least || at_most == 0) return error("malformed {n,m}");
    } else {
      return child;
    }
    if (peek('+') || peek('?') || peek('*')) return error("possessive and lazy quantifiers are unsupported");
    PatternNode node;
    node.kind = Kind::kRepeat;
    node.at_least = at_least;
    node.at_most = at_most;
    node.children.push_back(std::move(child));
    return node;
  }

  Result<int> number() {
    int value = 0;
    const size_t start = at_;
    for (; !at_end() && input_[at_] >= '0' && input_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<int>(input_[at_] - '0');
      if (value > 1000) return error("a count above 1000");
    }
    if (at_ == start) return error("missing count");
    return value;
  }

  // A class, an escape or a literal.
  Result<CodepointSet> one_character() {
    if (at_end()) return error("unexpected end");
    if (accept("[")) return bracket();
    if (accept("\\")) return escape();
    const char32_t c = input_[at_++];
    return ignore_case_ ? case_folded(c) : CodepointSet::single(c);
  }

  Result<CodepointSet> escape() {
    if (at_end()) return error("trailing backslash");
    const char32_t c = input_[at_++];
    switch (c) {
      case 'r':
        return CodepointSet::single('\r');
      case 'n':
        return CodepointSet::single('\n');
      case 't':
        return CodepointSet::single('\t');
      case 's':
        return CodepointSet::white_space();
      case 'S':
        return CodepointSet::white_space().complement();
      case 'd':
        return *CodepointSet::property("Nd");
      case 'x':
        return hexadecimal();
      case 'p':
        return property(false);
      case 'P':
        return property(true);
      default:
        break;
    }
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) return error("unsupported escape");
    return CodepointSet::single(c);
  }

  Result<CodepointSet> hexadecimal() {
    SPATE_TRY(const std::string digits, braced());
    char32_t value = 0;
    for (const char c : digits) {
      const size_t digit = std::string_view("0123456789ABCDEF").find(c);
      if (digit == std::string_view::npos || value > (kLastCodepoint >> 4)) return error("malformed \\x{HEX}");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    return CodepointSet::single(value);
  }

  Result<CodepointSet> property(bool negated) {
    SPATE_TRY(const std::string name, braced());
    const std::optional<CodepointSet> set = CodepointSet::property(name);
    if (!set) return error(fmt::format("unknown property '{}'", name));
    return negated ? set->complement() : *set;
  }

  Result<std::string> braced() {
    if (!accept("{")) return error("missing {");
    std::string name;
    while (!at_end() && !peek('}')) append_utf8(name, input_[at_++]);
    if (!accept("}") || name.empty()) return error("malformed {...}");
    return name;
  }

  // After "[". An intersection binds loosest, as in Oniguruma.
  Result<CodepointSet> bracket() {
    const bool negated = accept("^");
    std::optional<CodepointSet> left_of_and;
    CodepointSet set;
    while (!accept("]")) {
      if (at_end()) return error("missing ]");
      if (accept("&&")) {
        left_of_and = left_of_and ? left_of_and->intersected(set) : set;
        set = {};
        continue;
      }
      SPATE_TRY(CodepointSet part, one_character());
      if (peek('-') && !peek(']', 1)) {
        ++at_;
        SPATE_TRY(const CodepointSet last, one_character());
        SPATE_TRY(part, range(part, last));
      }
      set = set.united(part);
    }
    if (left_of_and) set = left_of_and->intersected(set);
    return negated ? set.complement() : set;
  }

  Result<CodepointSet> range(const CodepointSet& first, const CodepointSet& last) const {
    const auto single = [](const CodepointSet& set) {
      return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last;
    };
    if (!single(first) || !single(last) || last.ranges()[0].first < first.ranges()[0].first)
      return error("malformed range");
    return CodepointSet({{first.ranges()[0].first, last.ranges()[0].first}});
  }

  std::string_view expression_;
  std::u32string input_;
  size_t at_ = 0;
  bool ignore_case_ = false;
};

}  // namespace

Result<PatternNode> parse_pattern(std::string_view expression) {
  return Parser(expression).parse();
}

}  // namespace spate
