// How a failure travels inside this layer. Nearly every expression of a template can fail, in the middle of a recursive
// evaluation; a Result at each of them would drown the language's rules. So the interpreter throws a Failure, and
// Template::parse and Template::render, the only ways in, turn it into an Error: it never leaves src/jinja.
#pragma once

#include <fmt/format.h>
#include <string>
#include <utility>

#include "base/error.h"

namespace spate::jinja {

struct Failure {
  ErrorCode code;
  std::string what;
  int line = 0;  // in the template's source; 0: the one being evaluated
};

// The template, or the values that it was given, break a rule of the language.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{ErrorCode::kUnsupported, fmt::format(format, std::forward<Args>(args)...)};
}

// The source is not a template.
template <typename... Args>
[[noreturn]] void fail_syntax(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{ErrorCode::kBadFile, fmt::format(format, std::forward<Args>(args)...), line};
}

// A limit (limits.h) is reached.
template <typename... Args>
[[noreturn]] void fail_limit(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{ErrorCode::kOutOfResources, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace spate::jinja
