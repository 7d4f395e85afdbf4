// The template's interface: errors and where they are, what it does beyond Jinja2, use by several threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "jinja_testing.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  ErrorCode code;
  std::string message;
};

Outcome failure_of(std::string_view source, const Json& context = Json::object()) {
  const Result<jinja::Rendered> rendered = render(source, context);
  if (rendered.ok()) return {ErrorCode::kIo, "no error: " + rendered->text};
  return {rendered.error().code, rendered.error().message};
}

TEST(TemplateErrors, NameTheLine) {
  EXPECT_EQ(failure_of("a\nb {{ x.y }}").message, "template 'test', line 2: 'x' is undefined");
  EXPECT_EQ(failure_of("{% if true %}\n\n{{ 1 +\n 'a' }}{% endif %}").message,
            "template 'test', line 3: unsupported operand types for +: 'int' and 'str'");
  EXPECT_EQ(failure_of("{#\n\n#}\n{{ d.a.b }}", Json{{"d", Json::object()}}).message,
            "template 'test', line 4: 'dict object' has no attribute 'a'");
  EXPECT_EQ(failure_of("{% macro f() %}\n{{ x.y }}{% endmacro %}\n\n{{ f() }}").message,
            "template 'test', line 2: 'x' is undefined");
  EXPECT_EQ(failure_of("{% raw %}\n\n{% endraw %}\n{{ 1|nope }}").message,
            "template 'test', line 4: there is no filter named 'nope'");
}

TEST(TemplateErrors, SyntaxNamesTheLine) {
  const Outcome outcome = failure_of("\n\n{% if %}");
  EXPECT_EQ(outcome.code, ErrorCode::kBadFile);
  EXPECT_EQ(outcome.message, "template 'test', line 3: expected an expression, found '%}'");
  EXPECT_EQ(failure_of("{% for x in y %}\n\n").message,
            "template 'test', line 1: the for block that begins here has no end: 'endfor' is missing");
  EXPECT_EQ(failure_of("{{ 'a }}").message, "template 'test', line 1: the string that begins here has no end");
  EXPECT_EQ(failure_of("a\n{# b").message,
            "template 'test', line 2: the comment that begins here has no end: '#}' is missing");
  EXPECT_EQ(failure_of("{{ 99999999999999999999 }}").message,
            "template 'test', line 1: the integer '99999999999999999999' does not fit 64 bits");
}

TEST(TemplateErrors, OtherFilesAreOutOfReach) {
  for (const std::string tag : {"include 'x'", "import 'x' as y", "from 'x' import y", "extends 'x'"}) {
    const Outcome outcome = failure_of("{% " + tag + " %}");
    EXPECT_EQ(outcome.code, ErrorCode::kBadFile);
    EXPECT_THAT(outcome.message, HasSubstr("a template has no access to other files"));
  }
}

TEST(TemplateErrors, RaiseExceptionIsTheUsers) {
  const Outcome outcome = failure_of("\n{{ raise_exception('Roles must alternate: ' ~ r) }}", Json{{"r", "x\ny"}});
  EXPECT_EQ(outcome.code, ErrorCode::kUsage);
  EXPECT_EQ(outcome.message, "template 'test', line 2: Roles must alternate: x y");
  EXPECT_EQ(failure_of("{{ x.y }}").code, ErrorCode::kUnsupported);
}

TEST(TemplateErrors, HostileNamesDoNotBreakTheMessage) {
  const Outcome outcome = failure_of("{{ d[k].x }}", Json{{"d", Json::object()}, {"k", "a\x1b[2J\n"}});
  EXPECT_EQ(outcome.message.find('\x1b'), std::string::npos);
  EXPECT_EQ(outcome.message.find('\n'), std::string::npos);
}

TEST(Template, ContextMustBeAnObject) {
  const Result<jinja::Template> parsed = jinja::Template::parse("x", "test");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->render(Json::array()).error().code, ErrorCode::kUsage);
}

// Refused by Jinja's immutable sandbox, needed by templates that were published all the same.
TEST(Template, ChangesItsOwnListsAndDicts) {
  EXPECT_EQ(render_text("{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}"), "[1, 2]");
  EXPECT_EQ(
      render_text("{% set ns = namespace(l=[]) %}{% for i in 'ab' %}{% do ns.l.append(i) %}{% endfor %}{{ ns.l }}"),
      "['a', 'b']");
  EXPECT_EQ(
      render_text(
          "{% set l = [3, 1] %}{% do l.extend([2]) %}{% do l.insert(0, 9) %}{% do l.remove(1) %}{{ l }}"
          "{{ l.pop() }}{{ l.pop(0) }}{% do l.insert(5, 7) %}{% do l.reverse() %}{{ l }}{% do l.clear() %}{{ l }}"),
      "[9, 3, 2]29[7, 3][]");
  EXPECT_EQ(
      render_text("{% set d = {'a': 1} %}{% do d.update({'b': 2}, c=3) %}{{ d }}{{ d.pop('a') }}{{ d.pop('x', 5) }}"
                  "{{ d.setdefault('e', 6) }}{{ d.setdefault('b', 7) }}{{ d }}{% do d.clear() %}{{ d }}"),
      "{'a': 1, 'b': 2, 'c': 3}1562{'b': 2, 'c': 3, 'e': 6}{}");
  EXPECT_EQ(render_text("{% set l = [1, 2] %}{% do l.extend(l) %}{{ l }}"), "[1, 2, 1, 2]");
  EXPECT_EQ(render_text("{% set l = [1, 2, 3] %}{% for x in l %}{% if x == 1 %}{% do l.append(9) %}{% endif %}{{ x }}"
                        "{% endfor %}"),
            "1239");
  EXPECT_EQ(render_text("{% set l = [1, 2, 3, 4] %}{% for x in l %}{% do l.pop() %}{{ x }}{% endfor %}"), "12");
}

TEST(Template, DoesNotChangeWhatItWasGiven) {
  const Json values = {{"l", {1}}, {"d", {{"a", 1}}}};
  for (const std::string change :
       {"l.append(2)", "l.pop()", "l.clear()", "l.reverse()", "l.extend([1])", "l.insert(0, 1)", "l.remove(1)",
        "d.update(b=1)", "d.pop('a')", "d.clear()", "d.setdefault('x', 1)"})
    EXPECT_THAT(failure_of("{% set _ = " + change + " %}", values).message, HasSubstr("change a copy instead"))
        << change;
  EXPECT_EQ(render_text("{% set c = l.copy() %}{% do c.append(2) %}{{ c }}{{ l }}", values), "[1, 2][1]");
  EXPECT_EQ(render_text("{% set c = dict(d) %}{% do c.update(b=2) %}{{ c }}{{ d }}", values),
            "{'a': 1, 'b': 2}{'a': 1}");
}

TEST(Template, LargeDictsFindTheirKeys) {
  EXPECT_EQ(
      render_text("{% set d = {} %}{% for i in range(2000) %}{% do d.update({i: i * i, i|string: i}) %}{% endfor %}"
                  "{{ d|length }} {{ d[1999] }} {{ d['1999'] }} {{ d[77.0] }} {{ d.get(2000) }} {{ d.pop(5) }} "
                  "{{ 5 in d }} {{ d['5'] }} {{ d[true] }}"),
      "4000 3996001 1999 5929 None 25 False 5 1");
}

TEST(Template, IntegersHave64Bits) {
  for (const std::string expression :
       {"9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 63", "10 ** 30",
        "(-9223372036854775807 - 1) // -1", "(-9223372036854775807 - 1)|abs", "-(-9223372036854775807 - 1)", "1e30|int",
        "'99999999999999999999'|int"})
    EXPECT_THAT(failure_of("{{ " + expression + " }}").message, HasSubstr("64")) << expression;
  EXPECT_EQ(render_text("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  EXPECT_EQ(render_text("{{ x }} {{ y }}", Json{{"x", 18446744073709551615u}, {"y", INT64_MIN}}),
            "1.8446744073709552e+19 -9223372036854775808");
}

TEST(Template, RefusesWhatDiffersEachTime) {
  EXPECT_THAT(failure_of("{{ [1]|random }}").message, HasSubstr("'random' is not supported"));
  EXPECT_THAT(failure_of("{{ lipsum() }}").message, HasSubstr("'lipsum' is not supported"));
  const Result<jinja::Template> parsed = jinja::Template::parse("{{ strftime_now('%Y') }}", "test");
  EXPECT_THAT(parsed->render(Json::object()).error().message, HasSubstr("needs the time"));
}

TEST(Template, InvalidUtf8PassesThrough) {
  EXPECT_EQ(render_text("\xff{{ '\xfe' }}{{ '\xc3'|length }}"),
            "\xff\xfe"
            "1");
  const Result<jinja::Template> parsed = jinja::Template::parse(
      "{{ x }}|{{ x|upper }}|{{ x|length }}|{{ x[::-1]|length }}|{{ x|trim }}|{{ x.split() }}|{{ x|tojson }}|{{ "
      "x|title }}",
      "test");
  auto context = std::make_shared<jinja::Dict>(nullptr);
  context->set(jinja::Text("x", jinja::Origin::kTemplate), jinja::Text(" a\xc3 \xff", jinja::Origin::kRequest));
  const Result<jinja::Rendered> rendered = parsed->render(jinja::Value(context));
  ASSERT_TRUE(rendered.ok()) << rendered.error().message;
  EXPECT_EQ(rendered->text, " a\xc3 \xff| A\xc3 \xff|5|5|a\xc3 \xff|['a\\xc3', '\\xff']|\" a\xc3 \xff\"| A\xc3 \xff");
}

TEST(Template, SeveralThreadsRenderAtATime) {
  const Result<jinja::Template> parsed = jinja::Template::parse(
      "{% macro f(x) %}<{{ x|upper }}>{% endmacro %}{% for m in messages %}{{ f(m) }}{{ 'lit'|title }}{% endfor %}",
      "test");
  ASSERT_TRUE(parsed.ok());
  const Result<jinja::Value> values = jinja::value_from_json(Json{{"messages", {"a", "b"}}});
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) text = parsed->render(*values)->text;
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, "<A>Lit<B>Lit");
}

}  // namespace
}  // namespace spate::testing
