// Text from patterns: printf-style % formatting, str.format, the numbers of both, and strftime.
#pragma once

#include <ctime>
#include <string>

#include "jinja/value.h"

namespace spate::jinja {

// pattern % values: a tuple gives one value for each conversion, a dict values by name, anything else is the only
// value.
Text percent_format(Heap& heap, const Text& pattern, const Value& values);

// pattern.format(*positional, **named): {} {0} {name} {0.attribute[key]!r:spec}.
Text brace_format(Interpreter& interpreter, const Text& pattern, const Arguments& values);

// The mini-language of format(): [[fill]align][sign][#][0][width][grouping][.precision][type].
struct FormatSpec {
  std::string fill = " ";  // one character
  Origin fill_origin = Origin::kTemplate;
  char align = 0;  // < > ^ = or 0: as the type has it
  char sign = '-';
  bool alternate = false;
  char grouping = 0;  // , or _
  int64_t width = 0;
  int64_t precision = -1;  // none
  char type = 0;
};
FormatSpec parse_format_spec(const Text& spec);
Text format_value(Heap& heap, const Value& value, const FormatSpec& spec);

// Digits of a float: type one of e E f F g G %; precision -1 is 6. Lower-case inf and nan, or upper with an upper type.
std::string format_real(double value, char type, int64_t precision, bool alternate);

// As C's strftime in the C locale, for the directives that need neither a time zone nor a clock.
Text format_time(Heap& heap, const Text& pattern, const std::tm& time);

}  // namespace spate::jinja
