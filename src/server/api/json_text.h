// Writing JSON by hand, for answers: their shapes are fixed and there are thousands a second.
#pragma once

#include <string>
#include <string_view>

namespace spate::api {

// Appends the text in quotes, as JSON (RFC 8259, 7). What is no UTF-8 is replaced by U+FFFD.
void append_json_text(std::string& out, std::string_view text);
std::string json_text(std::string_view text);

// Appends the shortest number that reads back as the same float. JSON has no infinities and no NaN: those are null.
void append_json_number(std::string& out, float value);

}  // namespace spate::api
