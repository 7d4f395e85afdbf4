// Line charts as SVG: small multiples, one under the other, that need no fonts and no scripts of anybody.
#pragma once

#include <string>
#include <vector>

namespace spate {

struct ChartPoint {
  double x, y;
  double low, high;  // the spread of y
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;  // by ascending x
  bool dashed = false;             // a bound rather than a measurement: no markers, no spread
};

struct ChartPanel {
  std::string title, x_label, y_label;
  std::vector<ChartSeries> series;  // with at least one point in all
};

// Every x that occurs is a tick; the x axis is logarithmic where the positive ones span a factor of 8 or more. The y
// axis starts at 0. Numbers must be finite and at least 0.
std::string svg_chart(const std::string& title, const std::string& subtitle, const std::vector<ChartPanel>& panels);

// Steps between the ticks of an axis from 0 to max > 0: 1, 2 or 5 times a power of ten, for 4 to 10 ticks.
double tick_step(double max);

}  // namespace spate
