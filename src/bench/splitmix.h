// Random numbers for synthetic weights and prompts.
#pragma once

#include <cstdint>

namespace spate {

// A stream of random 64-bit numbers (splitmix64, Steele et al. 2014): the same on every machine and library.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  // In [0, n), n > 0; uneven by less than n / 2^64.
  uint64_t below(uint64_t n) { return next() % n; }
  // Uniform, of mean 0 and deviation 1.
  float symmetric() { return (static_cast<float>(next() >> 40) * 0x1p-23f - 1) * 1.7320508f; }

 private:
  uint64_t state_;
};

}  // namespace spate
