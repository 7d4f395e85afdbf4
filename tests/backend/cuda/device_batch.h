// A DeviceBatch over vectors of a test.
#pragma once

#include <vector>

#include "backend/cuda/ops.h"

#include "device_vector.h"

namespace spate::cuda::testing {

struct BatchVectors {
  std::vector<int32_t> tokens, from_row, positions, seq_of, page_start, pages;
  int n_tokens_real = 0;
  std::vector<int32_t> kv_len = {0};  // for those who read it
};

class TestBatch {
 public:
  explicit TestBatch(const BatchVectors& host)
      : tokens_(host.tokens),
        from_row_(host.from_row),
        positions_(host.positions),
        seq_of_(host.seq_of),
        page_start_(host.page_start),
        pages_(host.pages),
        n_tokens_real_(std::vector<int32_t>{host.n_tokens_real}),
        kv_len_(host.kv_len) {}

  DeviceBatch get() const {
    DeviceBatch batch{};
    batch.tokens = tokens_.get();
    batch.from_row = from_row_.get();
    batch.positions = positions_.get();
    batch.seq_of = seq_of_.get();
    batch.page_start = page_start_.get();
    batch.pages = pages_.get();
    batch.n_tokens_real = n_tokens_real_.get();
    batch.kv_len = kv_len_.get();
    return batch;
  }

 private:
  DeviceVector<int32_t> tokens_, from_row_, positions_, seq_of_, page_start_, pages_, n_tokens_real_, kv_len_;
};

}  // namespace spate::cuda::testing
