// The escapes of Python's string literals.
#pragma once

#include <string>
#include <string_view>

namespace spate::jinja {

// The text between the quotes of a literal on the given line. Unknown escapes stay as they are, backslash and all.
// Throws Failure for a malformed one, for half a surrogate pair, and for \N{name}.
std::string unescape_string_literal(std::string_view body, int line);

}  // namespace spate::jinja
