// Steps of rows sampled by the device and by the host's sampler, over logits that a test makes up.
#pragma once

#include <cuda_runtime_api.h>
#include <random>
#include <span>
#include <vector>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/sampling.h"
#include "backend/sampler.h"

#include "device_vector.h"

namespace spate::cuda::testing {

class SamplingHarness {
 public:
  struct Shape {
    int vocab_size = 0;
    int max_seqs = 64;
    int max_tokens = 64;  // of a step, and rows
    int slice_rows = 64;
    int d_model = 5;
  };

  // Device memory holds 0xff wherever a kernel has not written: NaN, or a negative number.
  SamplingHarness(const Shape& shape, const DeviceProfile& profile);
  ~SamplingHarness();
  SamplingHarness(const SamplingHarness&) = delete;
  SamplingHarness& operator=(const SamplingHarness&) = delete;

  // What the executor does for a step's rows. logits[R, vocab_size]; hidden[R, d_model], where there are kHidden rows.
  // full: through SamplingPath::kFull, although the plan needs less.
  std::vector<RowOutput> device_step(const StepBatch& batch, const std::vector<float>& logits,
                                     const std::vector<float>& hidden = {}, bool full = false);
  // The same by the host's sampler; kHidden rows are left empty.
  std::vector<RowOutput> host_step(const StepBatch& batch, const std::vector<float>& logits);

  // Logits of a row of the last host_step() after bias and penalties, as the host applied them.
  const std::vector<float>& adjusted(int row) const { return adjusted_[row]; }
  const SlotState& host_slot(int slot) const { return host_slots_[slot]; }

  std::vector<int32_t> drawn() const { return drawn_.download(); }
  std::vector<uint32_t> counts(int slot) const;
  const RowPlan& plan() const { return plan_; }
  cudaStream_t stream() const { return stream_; }
  // What sample_rows() takes for the step uploaded last, its logits in rows from 0.
  SampleArgs sample_args(int first_row) const;
  void upload(const StepBatch& batch);
  void upload_logits(const std::vector<float>& logits, const RowSlice& slice);
  std::vector<RowOutput> read(const StepBatch& batch) const;
  void count(int n_tokens, int slice);  // count_tokens() of the step uploaded last

 private:
  Shape shape_;
  bool dependent_;
  cudaStream_t stream_ = nullptr;
  DeviceArena scratch_memory_, slot_memory_;
  SamplingScratch scratch_;
  SlotTable slots_;
  DeviceVector<float> logits_, hidden_;
  DeviceVector<RowSpec> rows_;
  DeviceVector<TokenCount> token_counts_;
  DeviceVector<int32_t> n_rows_real_, tokens_, from_row_, resolved_, drawn_;
  DeviceVector<std::byte> output_;
  RowPlan plan_;
  std::vector<SlotState> host_slots_;
  std::vector<int32_t> host_drawn_;
  std::vector<std::vector<float>> adjusted_;
};

// A step of one token for each of n_rows sequences, in slots 0.., each with a row.
StepBatch decode_batch(int n_rows, int vocab_size, std::mt19937& random);

// How near a row's draw comes to falling out otherwise: the least distance between a cumulative sum of weights and the
// bound it was compared with, by any filter or the draw, as a part of the sum's total. float64, the slow way.
double nearest_bound(const std::vector<float>& adjusted_logits, const SamplingParams& sampling, int64_t position);

}  // namespace spate::cuda::testing
