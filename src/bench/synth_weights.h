// Random weights of any tensor type, as fast as a disk takes them. They are random qblocks, not encoded numbers: every
// code and every small scale that the format holds occurs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/error.h"
#include "bench/splitmix.h"
#include "quant/quant_type.h"

namespace spate {

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
