// A DeviceBatch over vectors of a test.
#pragma once

#include <vector>

#include "backend/cuda/ops.h"

#include "device_vector.h"

namespace spate::cuda::testing {

struct BatchVectors {
  std::vector<int32_t> tokens, from_row, pages;
  std::vector<TokenPlace> places;
  std::vector<int32_t> kv_len = {0};  // for those who read it
};

class TestBatch {
 public:
  explicit TestBatch(const BatchVectors& host)
      : tokens_(host.tokens),
        from_row_(host.from_row),
        pages_(host.pages),
        places_(host.places),
        kv_len_(host.kv_len) {}

  DeviceBatch get() const {
    DeviceBatch batch{};
    batch.tokens = tokens_.get();
    batch.from_row = from_row_.get();
    batch.places = places_.get();
    batch.pages = pages_.get();
    batch.kv_len = kv_len_.get();
    return batch;
  }

 private:
  DeviceVector<int32_t> tokens_, from_row_, pages_;
  DeviceVector<TokenPlace> places_;
  DeviceVector<int32_t> kv_len_;
};

}  // namespace spate::cuda::testing
