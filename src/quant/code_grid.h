// The values that codes stand for before they are scaled, and which of them is nearest: what one fit of a scale needs
// to know about a format.
#pragma once

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

  static Lanes nearest(Lanes values) {
    Lanes level = splat(kLow);
    for (int i = 1; i < 16; ++i) {
      const float middle = 0.5f * static_cast<float>(kIq4Levels[i - 1] + kIq4Levels[i]);
      const float step = static_cast<float>(kIq4Levels[i] - kIq4Levels[i - 1]);
      level += values > splat(middle) ? splat(step) : splat(0);
    }
    return level;
  }

  static uint8_t code(float grid_value) {
    uint8_t index = 0;
    while (static_cast<float>(kIq4Levels[index]) < grid_value) ++index;
    return index;
  }
};

}  // namespace spate
