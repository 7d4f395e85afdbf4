// Pieces that each pre-tokenizer must cut, derived by hand from its published pattern.
#pragma once

#include <span>
#include <string_view>

namespace spate::testing {

struct PreTokenizerCases {
  std::string_view name;                     // the first name of a row of text/pre_tokenizers.cc
  std::span<const std::string_view> pieces;  // each a text with U+00A6 where it is cut
};

std::span<const PreTokenizerCases> pre_tokenizer_cases();

}  // namespace spate::testing
