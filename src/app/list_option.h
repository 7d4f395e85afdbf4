// Options that take a list: "1,8,32".
#pragma once

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <optional>
#include <string>
#include <vector>

#include "app/numbers.h"

namespace spate::app {

// Calls take(part) for the parts of "a,b,c"; a list names at least one thing and no part is empty. take returns whether
// it knows the part. wanted: what a part should be, "a number from 1 to 8".
template <typename Take>
void each_of_list(const std::string& name, const std::string& text, const std::string& wanted, const Take& take) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (part.empty() || !take(part))
      throw CLI::ValidationError(name,
                                 fmt::format("'{}' is not {}, or a list of such with commas between", part, wanted));
    begin = end + 1;
  }
}

// An option that takes a list of numbers in [min, max].
template <typename T>
CLI::Option* add_list(CLI::App& parser, const std::string& name, std::vector<T>& values, std::type_identity_t<T> min,
                      std::type_identity_t<T> max, const std::string& description) {
  const auto parse = [&values, name, min, max](const std::string& text) {
    values.clear();
    each_of_list(name, text, fmt::format("a number from {} to {}", min, max), [&](const std::string& part) {
      const std::optional<T> number = parse_number<T>(part);
      if (!number || *number < min || *number > max) return false;
      values.push_back(*number);
      return true;
    });
  };
  return parser.add_option_function<std::string>(name, parse, description)->type_name("LIST");
}

}  // namespace spate::app
