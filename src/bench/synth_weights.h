// Random weights of any tensor type, as fast as a disk takes them. They are random qblocks, not encoded numbers: every
// code and every small scale that the format holds occurs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/error.h"
#include "quant/quant_type.h"

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

// Some MiB of random qblocks of one type, from which tensors of any length are cut.
class QblockPool {
 public:
  // Qblocks whose decoded values have mean 0 and the given standard deviation, which f16 must be able to hold.
  QblockPool(QuantType type, float deviation, uint64_t seed);

  QuantType type() const { return type_; }
  float deviation() const { return deviation_; }

  // Gives `take` n_bytes, whole qblocks, in pieces that begin at random places of the pool: tensors differ, as do the
  // rows of one.
  Result<void> stream(uint64_t n_bytes, SplitMix& random,
                      const std::function<Result<void>(std::span<const std::byte>)>& take) const;

 private:
  QuantType type_;
  float deviation_;
  std::vector<std::byte> bytes_;
};

}  // namespace spate
