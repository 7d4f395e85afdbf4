// Pieces that each pre-tokenizer must cut, derived by hand from its published pattern.
#pragma once

#include <iosfwd>
#include <span>
#include <string>
#include <string_view>

#include "text/pre_tokenizers.h"

namespace spate {

void PrintTo(const PreTokenizer& row, std::ostream* out);

}  // namespace spate

namespace spate::testing {

struct PreTokenizerCases {
  std::string_view name;                     // the first name of a row of text/pre_tokenizers.cc
  std::span<const std::string_view> pieces;  // each a text with U+00A6 where it is cut
};

void PrintTo(const PreTokenizerCases& cases, std::ostream* out);

std::span<const PreTokenizerCases> pre_tokenizer_cases();

std::string first_name(const PreTokenizer& row);
// A pre-tokenizer's name as a test's name may be: letters, digits and underscores.
std::string test_name(std::string_view name);

}  // namespace spate::testing
