#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace spate {

namespace {

constexpr int kAlphabetEnd = 0x100 + 68;

struct Alphabet {
  std::array<uint16_t, 256> of_byte;
  std::array<int16_t, kAlphabetEnd> to_byte;  // -1: not in the alphabet
};

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr Alphabet make_alphabet() {
  Alphabet alphabet{};
  alphabet.to_byte.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int codepoint = is_printable(byte) ? byte : next++;
    alphabet.of_byte[byte] = static_cast<uint16_t>(codepoint);
    alphabet.to_byte[codepoint] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_of_printable(std::string_view stored) {
  std::string bytes;
  bytes.reserve(stored.size());
  while (!stored.empty()) {
    const DecodedUtf8 c = decode_utf8(stored);
    if (!c.valid || c.codepoint >= kAlphabetEnd || kAlphabet.to_byte[c.codepoint] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.to_byte[c.codepoint]);
    stored.remove_prefix(c.n_bytes);
  }
  return bytes;
}

std::string printable_of_bytes(std::string_view bytes) {
  std::string stored;
  stored.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(stored, kAlphabet.of_byte[static_cast<uint8_t>(byte)]);
  return stored;
}

}  // namespace spate
