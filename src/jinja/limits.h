// What parsing and rendering a template may use. A template comes with a model file that somebody published, and
// decides what a request makes it do: every quantity that it could grow without end is bounded, and each bound is an
// Error that names it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spate::jinja {

struct Limits {
  size_t max_source_bytes = size_t{4} << 20;    // of a template
  size_t max_output_bytes = size_t{64} << 20;   // of a rendering
  size_t max_memory_bytes = size_t{512} << 20;  // held at a time by strings, lists, dicts and scopes of a rendering
  // An expression or statement is one step, and so are one item or piece of text that an operation puts somewhere, 64
  // bytes that it copies or searches, 4 that it looks at one by one. 50 million take about two seconds; a conversation
  // of a thousand messages takes under a hundred thousand.
  int64_t max_steps = 50'000'000;
  int64_t max_items = 1'000'000;      // of a list
  int64_t max_range_items = 100'000;  // of range(), as in Jinja's sandbox
  int max_nesting = 300;              // of expressions and blocks in a template's source, chains of operators counted
  // Of evaluations within one another when rendering: macros and recursive loops that call themselves, lists in lists.
  // At the default a rendering needs less than 1 MiB of native stack in a release build.
  int max_depth = 1000;
};

// Of JSON handed in as values: arrays and objects within one another.
inline constexpr int kMaxInputDepth = 200;

}  // namespace spate::jinja
