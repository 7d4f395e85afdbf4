#include "bench/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace spate {

namespace {

double median_of(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  SPATE_CHECK(!values.empty());
  Spread spread;
  spread.median = median_of(values);
  spread.min = values.front();
  spread.max = values.back();
  for (double& value : values) value = std::abs(value - spread.median);
  spread.mad = median_of(values);
  return spread;
}

}  // namespace spate
