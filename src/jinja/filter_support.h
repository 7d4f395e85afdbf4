// What every file of filters, tests, methods and functions begins with.
#pragma once

#include "jinja/builtins.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

// The parameters of a row's function (builtins.h); not every function needs each.
#define SPATE_JINJA_PARAMETERS                                                      \
  [[maybe_unused]] Interpreter &interpreter, [[maybe_unused]] const Value &subject, \
      [[maybe_unused]] const BoundArguments &arguments

namespace spate::jinja {

// The text of the subject, as str() gives it.
inline Text subject_text(Interpreter& interpreter, const Value& subject) {
  return to_text(interpreter.heap(), subject);
}

inline std::shared_ptr<List> new_list(Interpreter& interpreter, List::Kind kind = List::Kind::kList) {
  return std::make_shared<List>(&interpreter.heap(), kind);
}

inline Text literal(std::string_view text) {
  return Text(std::string(text), Origin::kTemplate);
}

}  // namespace spate::jinja
