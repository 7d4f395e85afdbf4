// Numbers as people write them.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <type_traits>

namespace spate::app {

// The whole text as a decimal number; nullopt for anything else, also for nan and what does not fit.
template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(value)) return std::nullopt;
  return value;
}

}  // namespace spate::app
