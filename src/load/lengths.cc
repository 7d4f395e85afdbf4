#include "load/lengths.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace spate::load {

namespace {

// Takes a number off the front of the text; none where there is none.
template <typename T>
std::optional<T> take_number(std::string_view& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool is_length(const std::optional<int>& n_tokens) {
  return n_tokens && *n_tokens >= 1 && *n_tokens <= kMaxLength;
}

}  // namespace

Result<Lengths> Lengths::parse(std::string_view text) {
  const auto bad = [&] {
    return Error::usage(fmt::format(
        "'{}' is no distribution of lengths; there are fixed:512, uniform:100-900, exponential:MEAN[,MAX] and "
        "lognormal:MEDIAN,SIGMA[,MAX], in tokens from 1 to {}",
        text, kMaxLength));
  };
  std::string_view rest = text;
  Kind kind = Kind::kFixed;
  if (take(rest, "uniform:"))
    kind = Kind::kUniform;
  else if (take(rest, "exponential:"))
    kind = Kind::kExponential;
  else if (take(rest, "lognormal:"))
    kind = Kind::kLognormal;
  else
    take(rest, "fixed:");
  const std::optional<int> location = take_number<int>(rest);
  if (!is_length(location)) return bad();
  std::optional<int> max = kMaxLength;
  double deviation = 0;
  if (kind == Kind::kFixed) max = location;
  if (kind == Kind::kUniform) {
    if (!take(rest, "-")) return bad();
    max = take_number<int>(rest);
  }
  if (kind == Kind::kLognormal) {
    const std::optional<double> sigma = take(rest, ",") ? take_number<double>(rest) : std::nullopt;
    if (!sigma || !(*sigma >= 0) || *sigma > 10) return bad();
    deviation = *sigma;
  }
  if ((kind == Kind::kLognormal || kind == Kind::kExponential) && take(rest, ",")) max = take_number<int>(rest);
  if (!rest.empty() || !is_length(max) || *max < *location) return bad();
  return Lengths(kind, *location, *max, deviation, std::string(text));
}

int Lengths::draw(Random& random) const {
  double length = location_;
  switch (kind_) {
    case Kind::kFixed:
      return max_;
    case Kind::kUniform: {
      const int min = static_cast<int>(location_);
      return min + static_cast<int>(random.below(static_cast<uint64_t>(max_ - min + 1)));
    }
    case Kind::kExponential:
      length *= random.exponential();
      break;
    case Kind::kLognormal:
      length *= std::exp(deviation_ * random.normal());
      break;
  }
  return static_cast<int>(std::lround(std::clamp<double>(length, 1, max_)));
}

}  // namespace spate::load
