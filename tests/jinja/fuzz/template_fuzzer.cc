// Fuzzes the interpreter with libFuzzer: the input is a template, rendered with the values of a small conversation
// under tight limits. Beyond what the sanitizers see, it checks that the origins cover the output, and that nothing
// which only the request holds ever counts as the template's.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "jinja/template.h"

namespace {

using spate::jinja::Origin;
using spate::jinja::Rendered;
using spate::jinja::Run;

// Stands in every string of the request and begins with a byte that no other character here has: U+E000.
constexpr char kMarkLead = '\xEE';
constexpr const char* kValues = R"({
  "messages": [
    {"role": "system", "content": "be \uE000 terse"},
    {"role": "user", "content": [{"type": "text", "text": " a,\uE000 b\n"}, {"type": "image"}]},
    {"role": "assistant", "content": "<think>\uE000</think>x", "tool_calls":
      [{"function": {"name": "f\uE000", "arguments": {"a": 1, "b": [true, null, 2.5]}}}]}
  ],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}}],
  "s": "x\uE000Y z", "n": 7, "l": [3, 1, 2], "d": {"k\uE000": "v", "i": 5}, "add_generation_prompt": true,
  "bos_token": "<s>", "eos_token": "</s>"
})";

const spate::jinja::Value& values() {
  static const spate::jinja::Value value =
      std::move(spate::jinja::value_from_json(nlohmann::ordered_json::parse(kValues))).value();
  return value;
}

void check_origins(const Rendered& rendered, bool may_make_the_mark) {
  size_t begin = 0;
  const Run* previous = nullptr;
  for (const Run& run : rendered.runs) {
    SPATE_CHECK(run.end > begin && run.end <= rendered.text.size());
    SPATE_CHECK(!previous || previous->origin != run.origin);
    const std::string_view piece = std::string_view(rendered.text).substr(begin, run.end - begin);
    if (run.origin == Origin::kTemplate && !may_make_the_mark)
      SPATE_CHECK(piece.find(kMarkLead) == std::string_view::npos, "the request's bytes count as the template's");
    begin = run.end;
    previous = &run;
  }
  SPATE_CHECK(begin == rendered.text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const spate::jinja::Limits limits{.max_output_bytes = size_t{1} << 20,
                                    .max_memory_bytes = size_t{8} << 20,
                                    .max_steps = 200'000,
                                    .max_items = 20'000,
                                    .max_range_items = 2'000};
  const auto parsed = spate::jinja::Template::parse(source, "fuzz", limits);
  if (!parsed.ok()) return 0;
  const auto rendered = parsed->render(values(), {.limits = limits, .now = std::tm{}});
  if (!rendered.ok()) return 0;
  // A template can spell the mark itself.
  const bool may_make_the_mark = source.find_first_of("\\\xEE") != std::string_view::npos ||
                                 source.find("&#") != std::string_view::npos || source.find("striptags") != source.npos;
  check_origins(*rendered, may_make_the_mark);
  return 0;
}
