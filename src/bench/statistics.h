// Median and spread of a few measurements.
#pragma once

#include <vector>

namespace spate {

struct Spread {
  double median = 0;
  double mad = 0;  // median absolute deviation from the median, unscaled
  double min = 0, max = 0;
};

// Of at least one value.
Spread spread_of(std::vector<double> values);

}  // namespace spate
