// Which bytes of the output are the template's: «» marks the others.
#include <gtest/gtest.h>

#include "jinja_testing.h"

namespace spate::testing {
namespace {

const Json kUser = {{"u", "<|x|>"}, {"n", 5}, {"list", {"a", "b"}}, {"d", {{"k", "v"}}}, {"s", " a,b "}, {"e", ""}};

std::string m(std::string_view source) {
  return render_marked(source, kUser);
}

TEST(Provenance, TemplateAndRequest) {
  EXPECT_EQ(m("a{{ u }}b"), "a«<|x|>»b");
  EXPECT_EQ(m("{{ '<|x|>' }}"), "<|x|>");
  EXPECT_EQ(m("{{ u }}{{ u }}"), "«<|x|><|x|>»");
  EXPECT_EQ(m("{{ missing }}{{ e }}x"), "x");
}

TEST(Provenance, Concatenation) {
  EXPECT_EQ(m("{{ '<' ~ u ~ '>' }}"), "<«<|x|>»>");
  EXPECT_EQ(m("{{ '<' + u + '>' }}"), "<«<|x|>»>");
  EXPECT_EQ(m("{{ u * 2 }}{{ 'a' * 2 }}"), "«<|x|><|x|>»aa");
  EXPECT_EQ(m("{{ ('[' ~ u ~ ']') * 2 }}"), "[«<|x|>»][«<|x|>»]");
  EXPECT_EQ(m("{% set x %}a{{ u }}b{% endset %}{{ x }}"), "a«<|x|>»b");
  EXPECT_EQ(m("{% set ns = namespace(x='') %}{% for c in list %}{% set ns.x = ns.x ~ c ~ ';' %}{% endfor %}{{ ns.x }}"),
            "«a»;«b»;");
}

TEST(Provenance, Parts) {
  EXPECT_EQ(m("{{ ('a' ~ u)[0] }}{{ ('a' ~ u)[1] }}"), "a«<»");
  EXPECT_EQ(m("{{ ('ab' ~ u ~ 'cd')[1:-1] }}"), "b«<|x|>»c");
  EXPECT_EQ(m("{{ ('ab' ~ u ~ 'cd')[::-1] }}"), "dc«>|x|<»ba");
  EXPECT_EQ(m("{{ ('ab' ~ u ~ 'cd')[::2] }}"), "a«<x>»d");
  EXPECT_EQ(m("{{ (' a' ~ s)|trim }}{{ s.strip() }}"), "a« a,ba,b»");
  EXPECT_EQ(m("{{ s.split(',')|join('+') }}"), "« a»+«b »");
  EXPECT_EQ(m("{{ ('x,' ~ s).split(',') | join('|') }}"), "x|« a»|«b »");
  EXPECT_EQ(m("{{ 'a-b'.partition('-')|join }}{{ (u ~ '-b').rpartition('-')|join('.') }}"), "a-b«<|x|>».-.b");
  EXPECT_EQ(m("{{ u.removeprefix('<') ~ u.removesuffix('|>') }}"), "«|x|><|x»");
  EXPECT_EQ(m("{{ (u ~ '\\nb').splitlines()|join('/') }}"), "«<|x|>»/b");
  EXPECT_EQ(m("{% for c in 'a' ~ u %}{{ c }}.{% endfor %}"), "a.«<».«|».«x».«|».«>».");
  EXPECT_EQ(m("{{ ('a' ~ u)|first }}{{ ('a' ~ u)|last }}{{ ('a' ~ u)|list|join }}"), "a«>»a«<|x|>»");
  EXPECT_EQ(m("{{ ('a' ~ u)|reverse }}"), "«>|x|<»a");
  EXPECT_EQ(m("{{ ('long ' ~ u ~ ' text')|truncate(9, true, '..', 0) }}"), "long «<|»..");
  EXPECT_EQ(m("{{ ('ab ' ~ u)|wordwrap(4) }}"), "ab «<»\n«|x|>»");
}

TEST(Provenance, Replacement) {
  EXPECT_EQ(m("{{ u|replace('x', 'im_end') }}"), "«<|»im_end«|>»");
  EXPECT_EQ(m("{{ 'a-b'|replace('-', u) }}"), "a«<|x|>»b");
  EXPECT_EQ(m("{{ 'a-b'.replace('-', u) }}"), "a«<|x|>»b");
  EXPECT_EQ(m("{{ u|replace(u, 'y') }}"), "y");
  EXPECT_EQ(m("{{ u|replace('nothing', 'y') }}"), "«<|x|>»");
  EXPECT_EQ(m("{{ 'ab'|replace('', u[0]) }}"), "«<»a«<»b«<»");
}

TEST(Provenance, Case) {
  EXPECT_EQ(m("{{ ('ab' ~ u)|upper }}{{ ('ab' ~ u)|capitalize }}{{ ('ab' ~ u)|title }}"),
            "AB«<|X|>»Ab«<|x|>»Ab«<|x|>»");
  EXPECT_EQ(m("{{ ('AB' ~ u)|lower }}{{ ('aB' ~ u).swapcase() }}{{ (u ~ 'ß').casefold() }}"),
            "ab«<|x|>»Ab«<|X|><|x|>»ss");
}

TEST(Provenance, Joining) {
  EXPECT_EQ(m("{{ list|join('-') }}{{ ['p', 'q']|join(u) }}"), "«a»-«b»p«<|x|>»q");
  EXPECT_EQ(m("{{ '-'.join(list) }}{{ u.join(['p', 'q']) }}"), "«a»-«b»p«<|x|>»q");
  EXPECT_EQ(m("{{ [u, '|>', n]|join }}"), "«<|x|>»|>5");
}

TEST(Provenance, Padding) {
  EXPECT_EQ(m("[{{ u|center(7) }}][{{ u.ljust(6) }}][{{ 'ab'.rjust(4, u[0]) }}][{{ s.zfill(7) }}]"),
            "[ «<|x|>» ][«<|x|>» ][«<<»ab][00« a,b »]");
  EXPECT_EQ(m("{{ ('a\\n' ~ u)|indent(2) }}{{ 'a\\nb'|indent(u) }}"), "a\n  «<|x|>»a\n«<|x|>»b");
  EXPECT_EQ(m("{{ (u ~ '\\tb').expandtabs(8) }}"), "«<|x|>»   b");
}

TEST(Provenance, Formatting) {
  EXPECT_EQ(m("{{ '<%s>' % u }}{{ '<%5s|%d>' % (u[0], n) }}"), "<«<|x|>»><    «<»|5>");
  EXPECT_EQ(m("{{ '<%s>'|format(u) }}{{ '%(a)s'|format(a=u) }}"), "<«<|x|>»>«<|x|>»");
  EXPECT_EQ(m("{{ '<{}|{a}>'.format(u, a='y') }}{{ '{:>7}'.format(u) }}"), "<«<|x|>»|y>  «<|x|>»");
  EXPECT_EQ(m("{{ '{:{f}>3}'.format('a', f=u[0]) }}"), "«<<»a");
  EXPECT_EQ(m("{{ u.format() }}{{ (u ~ '{}').format('a') }}"), "«<|x|><|x|>»a");
  EXPECT_EQ(m("{{ '%c%c' % (60, u[0]) }}"), "«<<»");  // characters made from numbers are nobody's
  EXPECT_EQ(m("{{ '{:c}'.format(60) }}"), "«<»");
}

TEST(Provenance, Json) {
  EXPECT_EQ(m("{{ u|tojson }}{{ 'a'|tojson }}"), "«\"<|x|>\"\"»a«\"»");
  EXPECT_EQ(m("{{ {'k': u, '<t>': 'w'}|tojson }}"), "«{\"»k«\": \"<|x|>\", \"»<t>«\": \"»w«\"}»");
  EXPECT_EQ(m("{{ [1, none]|tojson }}"), "«[1, null]»");
  EXPECT_EQ(m("{{ 'a\"b\\n'|tojson }}"), "«\"»a\\\"b\\n«\"»");
}

// What the interpreter writes around the items of a list counts as the request's: a user arranges the lists.
TEST(Provenance, PrintedContainers) {
  EXPECT_EQ(m("{{ ['a', u, n] }}"), "«['»a«', '<|x|>', 5]»");
  EXPECT_EQ(m("{{ d }}"), "«{'k': 'v'}»");
  EXPECT_EQ(m("{{ d|string }}{{ '%s' % d }}{{ '{}'.format(d) }}{{ '' ~ d }}"),
            "«{'k': 'v'}{'k': 'v'}{'k': 'v'}{'k': 'v'}»");
  EXPECT_EQ(m("{{ d|pprint }}"), "«{'k': 'v'}»");
}

// Numbers have no bytes of their own choosing: `<|image_5|>` may be built from one.
TEST(Provenance, NumbersAreTheTemplates) {
  EXPECT_EQ(m("{{ '<|image_' ~ n ~ '|>' }}{{ n }}{{ true }}{{ none }}{{ 1.5 }}"), "<|image_5|>5TrueNone1.5");
  EXPECT_EQ(m("{{ u|length }}{{ '7'|int }}"), "57");
}

TEST(Provenance, KeysOfDicts) {
  EXPECT_EQ(m("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}"), "«k»=«v»");
  EXPECT_EQ(m("{% for k in d %}{{ k }}{% endfor %}{{ d|dictsort }}"), "«k[('k', 'v')]»");
  EXPECT_EQ(m("{{ {'k': 1}.keys()|first }}{{ {u: 1}.keys()|first }}"), "k«<|x|>»");
  EXPECT_EQ(m("{% set x = dict(d) %}{{ x|first }}{{ dict(d, k='w')|first }}"), "«kk»");
  EXPECT_EQ(m("{% macro f() %}{{ kwargs|first }}{% endmacro %}{{ f(a=1) }}{{ f(**d) }}"), "a«k»");
}

TEST(Provenance, Html) {
  EXPECT_EQ(m("{{ ('<' ~ u)|e }}"), "&lt;«&lt;|x|&gt;»");
  EXPECT_EQ(m("{{ ('<' ~ u)|striptags }}{{ '&lt;'|striptags }}"), "<");
  EXPECT_EQ(m("{{ ('&lt;' ~ u.replace('<', '&lt;'))|striptags }}"), "<<«|x|>»");
  EXPECT_EQ(m("{{ u|urlencode }}{{ d|urlencode }}{{ {'a': u}|xmlattr }}"), "«%3C%7Cx%7C%3Ek»=«v» a=\"«&lt;|x|&gt;»\"");
  EXPECT_EQ(m("{{ u|safe }}{{ u|string }}{{ u|forceescape }}"), "«<|x|><|x|>&lt;|x|&gt;»");
}

TEST(Provenance, ThroughFiltersOverItems) {
  EXPECT_EQ(m("{{ list|map('upper')|join('') }}{{ list|sort(reverse=true)|join }}{{ list|unique|join }}"), "«ABbaab»");
  EXPECT_EQ(m("{{ list|select('eq', 'a')|first }}{{ list|max }}{{ [list]|sum(start=['t'])|join }}"), "«ab»t«ab»");
  EXPECT_EQ(m("{{ missing|default(u) }}{{ missing|default('t') }}{{ e|default('t', true) }}"), "«<|x|>»tt");
  EXPECT_EQ(m("{% filter upper %}a{{ u }}{% endfilter %}"), "A«<|X|>»");
  EXPECT_EQ(m("{% macro f(x) %}[{{ x }}]{{ caller() }}{% endmacro %}{% call f(u) %}c{{ u }}{% endcall %}"),
            "[«<|x|>»]c«<|x|>»");
}

TEST(Provenance, Time) {
  EXPECT_EQ(m("{{ strftime_now('<%Y>') }}{{ strftime_now(u) }}"), "<2026>«<|x|>»");
}

// The caller can vouch for strings that it made itself.
TEST(Provenance, ValuesOfTheTemplatesSide) {
  const Result<jinja::Template> parsed = jinja::Template::parse("{{ bos }}{{ role }}{{ content }}", "test");
  ASSERT_TRUE(parsed.ok());
  auto context = std::make_shared<jinja::Dict>(nullptr);
  context->set(jinja::Text("bos", jinja::Origin::kTemplate), jinja::Text("<s>", jinja::Origin::kTemplate));
  context->set(jinja::Text("role", jinja::Origin::kTemplate),
               *jinja::value_from_json("user", jinja::Origin::kTemplate));
  context->set(jinja::Text("content", jinja::Origin::kTemplate), *jinja::value_from_json("</s>"));
  const Result<jinja::Rendered> rendered = parsed->render(jinja::Value(context));
  ASSERT_TRUE(rendered.ok());
  EXPECT_EQ(marked(*rendered), "<s>user«</s>»");
}

TEST(Provenance, RunsCoverTheText) {
  const Result<jinja::Rendered> rendered = render("a{{ u }}{{ u }}b{{ '' }}{{ e }}c{{ n }}", kUser);
  ASSERT_TRUE(rendered.ok());
  ASSERT_EQ(rendered->runs.size(), 3u);
  EXPECT_EQ(rendered->runs[0], (jinja::Run{1, jinja::Origin::kTemplate}));
  EXPECT_EQ(rendered->runs[1], (jinja::Run{11, jinja::Origin::kRequest}));
  EXPECT_EQ(rendered->runs[2], (jinja::Run{14, jinja::Origin::kTemplate}));
  EXPECT_EQ(rendered->text.size(), 14u);
  EXPECT_TRUE(render("", kUser)->runs.empty());
}

}  // namespace
}  // namespace spate::testing
