// Every limit, and templates that are written to exceed what a machine has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "jinja_testing.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string repeated(std::string_view text, int n) {
  std::string result;
  for (int i = 0; i < n; ++i) result += text;
  return result;
}

// It must end with the error of a limit.
void expect_limit(std::string_view source, std::string_view what, const jinja::Limits& limits = {},
                  const Json& context = Json::object()) {
  SCOPED_TRACE(std::string(source.substr(0, 200)));
  const Result<jinja::Rendered> rendered = render(source, context, limits);
  ASSERT_FALSE(rendered.ok()) << "text of " << rendered->text.size() << " bytes";
  EXPECT_EQ(rendered.error().code, ErrorCode::kOutOfResources) << rendered.error().message;
  EXPECT_THAT(rendered.error().message, HasSubstr(std::string(what)));
  EXPECT_THAT(rendered.error().message, HasSubstr(", line "));
}

TEST(Limits, SourceBytes) {
  EXPECT_EQ(render_text("12345", {}, {.max_source_bytes = 5}), "12345");
  expect_limit("123456", "6 bytes", {.max_source_bytes = 5});
}

TEST(Limits, OutputBytes) {
  EXPECT_EQ(render_text("{{ 'ab' * 5 }}", {}, {.max_output_bytes = 10}), "ababababab");
  expect_limit("{{ 'ab' * 5 }}c", "output", {.max_output_bytes = 10});
  expect_limit("{% for i in range(1000) %}0123456789{% endfor %}", "output", {.max_output_bytes = 1000});
}

TEST(Limits, MemoryBytes) {
  const jinja::Limits limits{.max_memory_bytes = 1 << 20};
  expect_limit("{{ ('a' * 2000000)|length }}", "too large", limits);
  expect_limit("{{ 'aaaa'|replace('a', 'b' * 400000)|length }}", "bytes of values", limits);
  expect_limit("{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
               "bytes of values", limits);
  expect_limit("{{ ('a,' * 300000).split(',')|length }}", "bytes of values", limits);
  expect_limit("{{ '%1000000000d' % 5 }}", "too large", limits);
  expect_limit("{{ 'x'|center(999999999) }}", "too large", limits);
  expect_limit("{{ 'x'.zfill(999999999) }}", "too large", limits);
  expect_limit("{{ '{:>9999999999}'.format(1) }}", "too large", limits);
  expect_limit("{{ 'a\nb'|indent(99999999) }}", "too large", limits);
  expect_limit("{{ ['a' * 1000, 'b' * 1000]|join('-' * 1100000) }}", "too large", limits);
  expect_limit("{{ ('a' * 500000)|tojson|tojson|length }}{{ ('\"' * 600000)|tojson }}", "bytes of values", limits);
  expect_limit("{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}",
               "bytes of values", limits);
  expect_limit("{% for i in range(90000) %}{% set ns = namespace(x=i) %}{% endfor %}", "bytes of values", limits);
  expect_limit("{% set x %}{% for i in range(90000) %}0123456789abcdef{% endfor %}{% endset %}", "bytes of values",
               limits);
}

TEST(Limits, MemoryIsGivenBack) {
  const jinja::Limits limits{.max_memory_bytes = 1 << 20};
  EXPECT_EQ(render_text("{% for i in range(100) %}{% set x = 'a' * 100000 %}{% set y = [1] * 5000 %}{% endfor %}ok", {},
                        limits),
            "ok");
}

TEST(Limits, Steps) {
  const jinja::Limits limits{.max_steps = 100'000};
  expect_limit("{% for i in range(1000) %}{% for j in range(1000) %}{{ i }}{% endfor %}{% endfor %}", "steps", limits);
  expect_limit("{% set a = range(1000)|list %}{% for i in range(1000) %}{{ 5000 in a }}{% endfor %}", "steps", limits);
  expect_limit("{% set a = 'x' * 1000000 %}{% for i in range(100) %}{{ a.count('y') }}{% endfor %}", "steps", limits);
  expect_limit(
      "{% set a = 'x' * 1000000 %}{% set b = 'x' * 1000000 %}{% for i in range(100) %}{{ a == b }}{% endfor %}",
      "steps", limits);
  expect_limit("{% set l = [1] %}{% for i in l %}{% set _ = l.append(i) %}{% endfor %}", "steps", limits);
}

// Lists that hold one another twice over: 2^60 items to look at.
TEST(Limits, StepsOfSharedValues) {
  const std::string build =
      "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
      "{% set ns.b = [ns.b, ns.b] %}{% endfor %}";
  const jinja::Limits limits{.max_steps = 1'000'000};
  expect_limit(build + "{{ ns.a == ns.b }}", "steps", limits);
  expect_limit(build + "{{ ns.a < ns.b }}", "steps", limits);
  expect_limit(build + "{{ ns.a|string }}", "steps", limits);
  expect_limit(build + "{{ ns.a|tojson }}", "steps", limits);
  expect_limit(build + "{{ ns.a|pprint }}", "steps", limits);
  expect_limit(
      "{% set ns = namespace(a=(1,)) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}{% endfor %}"
      "{{ {ns.a: 1} }}",
      "steps", limits);
}

// What looks at every byte, or at every item, costs more than what looks at none.
TEST(Limits, StepsOfLargeValues) {
  const std::string build =
      "{% set x = 'ab c' * 25000 %}{% set l = range(10000)|list %}{% for i in range(1000) %}{% set _ = ";
  for (const std::string operation : {"x|upper",
                                      "x|title",
                                      "x|reverse",
                                      "x|wordcount",
                                      "x|length",
                                      "x.isalpha()",
                                      "x.isascii()",
                                      "x is upper",
                                      "x.find('zz')",
                                      "x.rfind('zz')",
                                      "x.count('zz')",
                                      "x.split()",
                                      "x.split('zz')",
                                      "x.splitlines()",
                                      "'zz' in x",
                                      "x.strip('abc ')",
                                      "x[::2]",
                                      "x[-1]",
                                      "x|int(0)",
                                      "x|float(0)",
                                      "x|e",
                                      "x|urlencode",
                                      "x|tojson",
                                      "x|pprint",
                                      "x|replace('zz', '')",
                                      "x.partition('zz')",
                                      "x|indent",
                                      "x ~ 'a'",
                                      "x == x ~ ''",
                                      "{x: 1}",
                                      "l + l",
                                      "l[::-1]",
                                      "l|list",
                                      "l|sum",
                                      "l|max",
                                      "l|reverse",
                                      "l|join",
                                      "-1 in l",
                                      "l == l|list",
                                      "l|unique|list",
                                      "l|sort"}) {
    expect_limit(build + "(" + operation + ") %}{% endfor %}", "steps", {.max_steps = 1'000'000});
  }
}

TEST(Limits, StepsOfKeysThatMeet) {
  // Multiples of a power of two have the low bits of their hashes in common; no index may depend on these.
  EXPECT_EQ(render_text("{% set d = {} %}{% for i in range(20000) %}{{ d.update({i * 1048576: 1}) or '' }}{% endfor %}"
                        "{{ d|length }}",
                        {}, {.max_steps = 1'000'000}),
            "20000");
  // Whoever knows how keys are spread can still choose some that all meet.
  std::string chosen = "{{ {";
  for (uint64_t i = 0; i < 20'000; ++i)
    chosen += std::to_string(static_cast<int64_t>(i * 0xF1DE83E19937733Du) & INT64_MAX) + ": 1, ";
  expect_limit(chosen + "}|length }}", "steps", {.max_steps = 10'000'000});
}

TEST(Limits, Items) {
  const jinja::Limits limits{.max_items = 100};
  expect_limit("{{ [1, 2] * 51 }}", "more than 100 items", limits);
  EXPECT_EQ(render_text("{{ ([1, 2] * 50)|length }}", {}, limits), "100");
  expect_limit("{{ ('a' * 101)|list }}", "more than 100 items", limits);
  expect_limit("{{ [1] * 9223372036854775807 }}", "more than 100 items", limits);
  expect_limit("{{ 'x' * 9223372036854775807 }}", "too large", limits);
  expect_limit("{{ [1]|batch(9223372036854775807, 'x')|list }}", "more than 100 items", limits);
  expect_limit("{{ []|slice(9223372036854775807)|list }}", "more than 100 items", limits);
}

TEST(Limits, RangeItems) {
  expect_limit("{{ range(100001) }}", "100001 items");
  expect_limit("{{ range(-9223372036854775807, 9223372036854775807) }}", "items");
  EXPECT_EQ(render_text("{{ range(9223372036854775806, 9223372036854775807)|list }}"), "[9223372036854775806]");
  EXPECT_EQ(render_text("{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807)|list }}"),
            "[-9223372036854775807, 0]");
  EXPECT_EQ(render_text("{{ range(100000)|length }}"), "100000");
}

TEST(Limits, NestingOfSource) {
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{{"(", ")"},
                                                                                    {"[", "]"},
                                                                                    {"{1: ", "}"},
                                                                                    {"not ", ""},
                                                                                    {"-", ""},
                                                                                    {"+", ""},
                                                                                    {"f(", ")"},
                                                                                    {"x[", "]"},
                                                                                    {"1 if 1 else ", ""},
                                                                                    {"x|f(", ")"},
                                                                                    {"x is y(", ")"}}) {
    SCOPED_TRACE(open);
    expect_limit("{{ " + repeated(open, 100'000) + "1" + repeated(close, 100'000) + " }}", "nested deeper");
    EXPECT_EQ(render_text("{% if false %}{{ " + repeated(open, 100) + "1" + repeated(close, 100) + " }}{% endif %}"),
              "");
  }
  expect_limit(repeated("{% if true %}", 10'000) + repeated("{% endif %}", 10'000), "nested deeper");
  expect_limit(repeated("{% for x in y %}", 10'000), "nested deeper");
  expect_limit(repeated("{% macro m() %}", 10'000), "nested deeper");
  expect_limit("{% set " + repeated("(", 100'000) + "a" + repeated(")", 100'000) + " = 1 %}", "nested deeper");
}

// Chains of operators make a tree as deep as they are long.
TEST(Limits, ChainsOfOperators) {
  for (const std::string link : {" + 1", " - 1", " * 1", " // 1", " ** 1", " and 1", " or 1", ".a", "[0]", "()", "|abs",
                                 " if 1", " is odd and 1"}) {
    SCOPED_TRACE(link);
    expect_limit("{{ 1" + repeated(link, 100'000) + " }}", "nested deeper");
  }
  // These are lists, not trees.
  EXPECT_EQ(render_text("{{ 1" + repeated(" ~ 1", 5000) + " }}").size(), 5001u);
  EXPECT_EQ(render_text("{{ 1" + repeated(" == 1", 5000) + " }}"), "True");
  EXPECT_EQ(render_text("{{ 'a'" + repeated(" 'a'", 5000) + " }}").size(), 5001u);
  EXPECT_EQ(render_text("{% if false %}" + repeated("{% elif false %}", 5000) + "{% else %}x{% endif %}"), "x");
  EXPECT_EQ(render_text("{{ 1" + repeated(" + 1", 200) + " }}"), "201");
}

TEST(Limits, DepthOfCalls) {
  expect_limit("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels");
  expect_limit("{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "levels");
  expect_limit("{% macro f(a=f()) %}{% endmacro %}{{ f() }}", "levels");
  expect_limit("{% macro f() %}{% call f() %}{% endcall %}{{ caller }}{% endmacro %}{{ f() }}", "levels");
  expect_limit("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "levels");
  expect_limit(
      "{% set ns = namespace() %}{% macro f() %}{% filter upper %}{{ ns.f() }}{% endfilter %}{% endmacro %}"
      "{% set ns.f = f %}{{ ns.f() }}",
      "levels");
  EXPECT_EQ(render_text("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(100)|length }}"),
            "101");
}

// The deepest evaluation that is allowed must fit a thread's stack, sanitizers and all.
TEST(Limits, DeepestEvaluation_FitsTheStack) {
  std::string text;
  std::thread([&] {
    text = render_text(
        "{% macro f(n) %}{{ [[[(((1 + (2 * (3 - (f(n + 1)|length))))))]]]|tojson }}{% endmacro %}{{ f(0) }}");
  }).join();
  EXPECT_THAT(text, HasSubstr("levels"));
}

TEST(Limits, DepthOfValues) {
  const std::string deep =
      "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}";
  EXPECT_EQ(render_text(deep + "ok"), "ok");
  expect_limit(deep + "{{ ns.x }}", "levels");
  expect_limit(deep + "{{ ns.x|tojson }}", "levels");
  expect_limit(deep + "{{ ns.x|pprint }}", "levels");
  expect_limit(deep +
                   "{% set y = ns.x %}{% set ns.x = [] %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}"
                   "{{ y == ns.x }}",
               "levels");
  expect_limit("{% set l = [1] %}{% set _ = l.append(l) %}{{ l }}", "levels");
  expect_limit("{% set l = [1] %}{% set _ = l.append(l) %}{{ l|tojson }}", "levels");
  expect_limit(
      "{% set a = [1] %}{% set b = [1] %}{% set _ = a.append(b) %}{% set _ = b.append(a) %}{{ a == b }}{{ a < b }}",
      "levels");
}

TEST(Limits, DeepJsonIsRefused) {
  const auto nested = [](int depth) { return Json::parse(repeated("[", depth) + repeated("]", depth)); };
  EXPECT_EQ(render_text("{{ x|length }}", Json{{"x", nested(150)}}), "1");
  const Result<jinja::Rendered> rendered = render("x", Json{{"x", nested(1000)}});
  ASSERT_FALSE(rendered.ok());
  EXPECT_EQ(rendered.error().code, ErrorCode::kUsage);
}

// Values that refer to one another in circles, or in chains too long to free recursively, are freed all the same
// (AddressSanitizer tells).
TEST(Limits, CirclesAndChainsAreFreed) {
  for (const std::string source : {
           "{% set ns = namespace() %}{% set ns.self = ns %}",
           "{% set l = [] %}{% set _ = l.append(l) %}",
           "{% set d = {} %}{% set _ = d.update({'d': d}) %}",
           "{% macro f() %}{% endmacro %}{% set g = f %}",
           "{% for i in [1] recursive %}{% set l = loop %}{% endfor %}",
           "{% for i in [1] %}{% set _ = loop.changed(loop) %}{% endfor %}",
           "{% set l = [] %}{% set c = cycler(l) %}{% set _ = l.append(c) %}",
           "{% set l = [] %}{% set _ = l.append(l.append) %}",
           "{% set ns = namespace() %}{% for i in range(30000) %}{% set ns.x = [ns.x] %}{% endfor %}",
           "{% set ns = namespace() %}{% for i in range(30000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
           "{% set ns = namespace() %}{% for i in range(30000) %}{% set ns.x = cycler(ns.x) %}{% endfor %}",
           "{% set ns = namespace() %}{% for i in range(30000) %}{% set ns.x = namespace(x=ns.x) %}{% endfor %}",
           "{% set ns = namespace() %}{% for i in range(9000) %}{% set p = ns.x %}{% macro f() %}{{ p }}{% endmacro %}"
           "{% set ns.x = f %}{% endfor %}",
           "{% set o = [] %}{% set ns = namespace(l=o) %}{% for i in range(30000) %}{% set n = [] %}"
           "{% set _ = ns.l.append(n) %}{% set ns.l = n %}{% endfor %}",
       }) {
    SCOPED_TRACE(source);
    EXPECT_EQ(render_text(source + "ok"), "ok");
    EXPECT_THAT(render_text(source + "{{ missing.x }}"), StartsWith("error: "));
  }
}

// The work grows with the conversation, not with its square: each step is 64 bytes or an item.
TEST(Limits, LongConversationsAreCheap) {
  Json messages = Json::array();
  for (int i = 0; i < 4000; ++i)
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(500, 'x')}});
  const std::string source =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']|trim + "
      "'<|im_end|>' "
      "+ '\\n' }}{% endfor %}";
  const std::string text = render_text(source, Json{{"messages", messages}}, {.max_steps = 1'000'000});
  EXPECT_GT(text.size(), 4000u * 500);
}

}  // namespace
}  // namespace spate::testing
