// The random numbers of a load: from one seed, the same on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

namespace spate::load {

class Random {
 public:
  // stream: a number of its own for each use of the same seed.
  explicit Random(uint64_t seed, uint64_t stream = 0) : engine_(seed * 0x9E3779B97F4A7C15u + stream) {}

  // In [0, n), n > 0; uneven by less than n / 2^64.
  uint64_t below(uint64_t n) { return engine_() % n; }
  // In (0, 1]. The standard library's distributions differ from one library to the next; its engines do not.
  double uniform() { return static_cast<double>((engine_() >> 11) + 1) * 0x1p-53; }
  // Of mean 1: the gaps of a Poisson process of rate 1.
  double exponential() { return -std::log(uniform()); }
  // Of mean 0 and deviation 1 (Box and Muller 1958).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace spate::load
