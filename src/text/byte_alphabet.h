// The printable alphabet in which byte-level vocabularies store bytes: printable Latin-1 bytes stand for themselves,
// the other 68 for U+0100 and up, in order (openai/gpt-2, encoder.py, bytes_to_unicode).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spate {

// The bytes that a stored token stands for; nothing if it holds a character outside the alphabet.
std::optional<std::string> bytes_of_printable(std::string_view stored);

// The stored form of bytes.
std::string printable_of_bytes(std::string_view bytes);

}  // namespace spate
