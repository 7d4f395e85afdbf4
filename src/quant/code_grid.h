// The values that codes stand for before they are scaled, and which of them is nearest: what one fit of a scale needs
// to know about a format.
#pragma once

#include <array>
#include <cstdint>

#include "quant/iq4_nl.h"
#include "quant/lanes.h"

namespace spate {

// The integers kLow..kHigh; the code is the value less kLow.
template <int low, int high>
struct UniformGrid {
  static constexpr float kLow = low, kHigh = high;

  static Lanes nearest(Lanes values) { return round_lanes(clamp_lanes(values, kLow, kHigh)); }
  static uint8_t code(float grid_value) { return static_cast<uint8_t>(static_cast<int>(grid_value) - low); }
};

// The levels of IQ4_NL and IQ4_XS; the code is the level's index.
struct Iq4Grid {
  static constexpr float kLow = kIq4Levels[0], kHigh = kIq4Levels[15];

  // All boundaries between levels are multiples of 1/2, so a table of half steps from -128 up is exact.
  static constexpr int kHalfSteps = 512;
  static constexpr std::array<float, kHalfSteps> kNearest = [] {
    std::array<float, kHalfSteps> nearest{};
    for (int i = 0, level = 0; i < kHalfSteps; ++i) {
      while (level < 15 && i - 256 >= kIq4Levels[level] + kIq4Levels[level + 1]) ++level;
      nearest[static_cast<size_t>(i)] = kIq4Levels[level];
    }
    return nearest;
  }();

  static Lanes nearest(Lanes values) {
    const Lanes place = clamp_lanes(values + values + splat(256), 0, kHalfSteps - 1);
    Lanes levels;
    for (int lane = 0; lane < kLanes; ++lane)
      levels[lane] = kNearest[static_cast<size_t>(static_cast<int>(place[lane]))];
    return levels;
  }

  static uint8_t code(float grid_value) {
    uint8_t index = 0;
    while (static_cast<float>(kIq4Levels[index]) < grid_value) ++index;
    return index;
  }
};

}  // namespace spate
