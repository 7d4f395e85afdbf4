// Small pieces of text for people, and JSON for scripts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace spate::app {

// Members keep the order in which they were added.
using Json = nlohmann::ordered_json;

// JSON on one line, with its newline or without. Text that is not UTF-8 has its bad bytes replaced by U+FFFD.
std::string json_line(const Json& json);
std::string json_text(const Json& json);

// The text on one line: control characters as \n, \t or \x1b, invalid UTF-8 as U+FFFD. For what comes from files and
// command lines and must not drive a terminal.
std::string escape_control(std::string_view text);

// The text with its lines, but without control characters other than newline and tab: what a model says must not move a
// terminal's cursor, change its title or type for the user.
std::string terminal_text(std::string_view text);

// Like escape_control, cut after max_chars characters ("...").
std::string shorten(std::string_view text, size_t max_chars);

// "21.0 MiB".
std::string format_bytes(uint64_t n_bytes);

// "33,012,345".
std::string format_count(uint64_t count);

}  // namespace spate::app
