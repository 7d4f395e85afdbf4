// What a step costs any executor at least: the bytes that must move and the multiply-adds that the weights take.
#pragma once

#include <cstdint>

#include "backend/device_peaks.h"
#include "backend/executor.h"
#include "model/model.h"

namespace spate {

struct Work {
  double bytes = 0;  // of weights read, and of keys and values read or written
  double quantised_multiply_adds = 0, float_multiply_adds = 0;  // by the kind of the weights

  double multiply_adds() const { return quantised_multiply_adds + float_multiply_adds; }
  Work& operator+=(const Work& other);
};

// The shares of a device's peaks that `work` done in `seconds` makes, each 1 at its peak.
double read_share(const Work& work, double seconds, const DevicePeaks& peaks);
double math_share(const Work& work, double seconds, const DevicePeaks& peaks);

// Weights as the file stores them; keys and values as float16, each read once a step by the tokens of its sequence. The
// products of attention are left out: they are few, and of another precision.
class ModelWork {
 public:
  explicit ModelWork(const Model& model);

  // Every layer's weights once, the LM head's if any row wants logits, an embedding row a token.
  Work of_step(const StepBatch& batch) const;

  double weight_bytes() const { return layers_.bytes + head_.bytes; }  // of a step that wants logits
  double kv_bytes_per_token() const { return kv_bytes_per_token_; }

 private:
  Work layers_, head_;  // bytes of one pass; multiply-adds of one token, of one row
  double embedding_row_bytes_, kv_bytes_per_token_;
};

}  // namespace spate
