// Sampling on the GPU: what sample_row() (backend/sampler.h) does on the host, for all rows of a slice together. Logits
// never cross to the host.
//
// A step's rows are sampled in slices, because the LM head runs on a bounded number of rows at a time:
//
//   host    SlotTable::apply(batch.slot_ops)              slot_state.h; outside of graphs
//           plan_rows(batch, ...)                         fills RowSpecs and TokenCounts, uploaded with the batch
//   device  count_tokens(slice 0)                         where the plan counts; before anything is sampled
//           for each slice: [LM head]  count_tokens(slice)  [for slices after the first]
//                           sample_rows(...) or copy_hidden(...)
//           count_tokens(n_slices)                        where the plan counts a tail
//           one copy of plan.output_bytes to the host, which read_rows() turns into RowOutputs
//
// sample_rows and count_tokens may be captured: what changes from step to step is read from device memory; surplus rows
// of a captured grid exit.
//
// The arithmetic, so that a row draws the same token alone, in any batch and on every run, and the host's token: a
// token's weight is the host's float32 to the bit (softmax.h); sums of weights are exact, in units of 2^-42 of the
// greatest weight (64-bit integers: order cannot matter), where the host's are float64. The two can differ where a
// cumulative sum lies within vocab_size * 2^-42 of a bound. Log-probabilities are float32, in a fixed order.
//
// Grammar masks will enter where bias does: in sampling_scan.cu, before the penalties.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/slot_state.h"
#include "backend/executor.h"

namespace spate::cuda {

inline constexpr int kMaxSamplingVocab = 1 << 19;  // logits of a row at most

// A row of the step as kernels read it.
struct alignas(16) RowSpec {
  int32_t token_index;  // into the step's tokens; for gathering hidden states
  int32_t slot;
  int32_t kind;    // RowKind
  int32_t target;  // kScore
  int32_t n_logprobs;
  int32_t position;       // of the token that the row predicts
  int32_t output_offset;  // of the row's log-probabilities or hidden state in the output block, in units of 4 bytes
  int32_t reserved = 0;
};
static_assert(sizeof(RowSpec) == 32);

// Rows [first, first + n) of the step, sampled together. Either all of kind kHidden, or none.
struct RowSlice {
  int first, n;
  bool hidden;
};

enum class SamplingPath {
  kGreedy,  // kScore rows, and kSample rows that take the arg-max of the model's logits; no row's n_logprobs is over 0
  kFull,    // any rows
};

struct RowPlan {
  std::vector<RowSlice> slices;
  SamplingPath path = SamplingPath::kGreedy;
  bool counts = false;  // some token of the step is counted: run count_tokens before each slice
  bool has_tail =
      false;  // some token stands behind the last row of its sequence: run count_tokens(n_slices) at the end
  int64_t output_bytes = 0;
};

// Plans the rows of a batch. A slice ends at max_slice_rows, where kHidden begins or ends, and before the second
// kSample row of a slot, whose counts include the tokens between. rows[>= R] and counts[>= T] are filled: entries from
// T on with padding. `slots` must have had the batch's slot_ops applied. Nothing is allocated once `plan.slices` has
// grown.
void plan_rows(const StepBatch& batch, const SlotTable& slots, int max_slice_rows, int d_model, std::span<RowSpec> rows,
               std::span<TokenCount> counts, RowPlan& plan);

// The output block, in device memory and copied to the host as it is: RowResult[R], then each row's TokenLogprob
// [n_logprobs] or hidden state [d_model] float32 at its output_offset. The worst case, for allocation; a batch's own
// size is RowPlan::output_bytes. max_hidden_rows: kHidden rows of a step at most.
struct RowResult {
  int32_t token;
  float logprob;
};
int64_t max_output_bytes(int max_rows, int max_hidden_rows, int d_model);

// Scratch of sampling one slice; one per stream.
struct SamplingScratch {
  struct Part {  // of kPartLogits logits of a row
    float peak;  // the greatest logit; -infinity: none above it
    int32_t token;
    float sum;  // of e^(logit - peak)
    int32_t reserved;
  };
  Part* parts;           // [2][max_slice_rows, n_parts] the model's logits, the logits after bias and penalties
  uint32_t* run_maxima;  // [2][max_slice_rows, n_runs] as ordered integers
  uint64_t* run_masses;  // [max_slice_rows, n_runs] sums of weights
  float* adjusted;       // [max_slice_rows, logits_stride] logits after bias and penalties, of rows that have such
  int max_slice_rows = 0;
};
int64_t sampling_scratch_bytes(int max_slice_rows, int vocab_size);  // 64 rows of 152k: 41 MB, the adjusted logits
SamplingScratch take_sampling_scratch(int max_slice_rows, int vocab_size, DeviceArena& device);

struct SampleArgs {
  const float* logits;         // [n_rows, logits_stride(vocab_size)] of the slice; 16-byte aligned; not changed
  const RowSpec* rows;         // [R] of the step
  const int32_t* n_rows_real;  // [1] R; rows of the grid from there on are left out
  int first_row;               // of the slice: logits row i belongs to rows[first_row + i]
  int vocab_size;              // at most kMaxSamplingVocab
  DeviceSlots slots;
  SamplingScratch scratch;
  int32_t* drawn;     // [max_rows] each row's token at its index in the step (kScore: the most likely, as on the host)
  std::byte* output;  // the output block, 16-byte aligned
};

// Samples n_rows <= scratch.max_slice_rows rows. kHidden rows among them are left out.
void sample_rows(const SampleArgs& args, SamplingPath path, int n_rows, bool dependent, cudaStream_t stream);

// A slice of kHidden rows.
struct HiddenArgs {
  const float* hidden;  // [n_rows, d_model] of the slice
  const RowSpec* rows;
  const int32_t* n_rows_real;
  int first_row;
  int d_model;
  int32_t* drawn;  // 0, as on the host
  std::byte* output;
};
void copy_hidden(const HiddenArgs& args, int n_rows, bool dependent, cudaStream_t stream);

// What the rows of a batch left in the output block, once it is in host memory: fills `out` [R].
void read_rows(std::span<const Row> rows, const std::byte* output, int vocab_size, int d_model,
               std::vector<RowOutput>& out);

}  // namespace spate::cuda
