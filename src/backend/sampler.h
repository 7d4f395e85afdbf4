// Drawing tokens from logits on the host: the sampler of the CPU and the reference executors, and the truth that a
// device's sampler is tested against.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/executor.h"

namespace spate {

// A uniform draw in [0, 1), a function of its arguments alone: Philox4x32-10 (Salmon et al. 2011), key = seed, counter
// = (position, 0). The position is that of the token being drawn, so preemption and batching never change a draw.
float uniform_draw(uint64_t seed, uint64_t position);

// What penalties and bias need to know of one sequence. One per slot, reused; memory is taken only when penalties are
// on.
class SlotState {
 public:
  void reset(const SlotOp& op, int vocab_size);
  // Counts a token that entered the context at `position`.
  void count(int32_t token, int32_t position);

  const SamplingParams& sampling() const { return sampling_; }
  // Applies bias, then repetition, presence and frequency penalties. logits[vocab_size], in place.
  void apply(std::span<float> logits) const;

 private:
  bool has_penalties() const;

  SamplingParams sampling_;
  std::vector<LogitBias> logit_bias_;
  int32_t n_prompt_tokens_ = 0;
  std::vector<uint32_t>
      counts_;                 // [vocab_size] where penalties are on: bit 31 in the context, bits 0..30 times generated
  std::vector<int32_t> seen_;  // tokens with a non-zero count, in order of appearance
};

// Scratch memory of one sampling thread.
struct SamplerScratch {
  std::vector<float> logits;             // [vocab_size]
  std::vector<TokenLogprob> candidates;  // [vocab_size]
};

// One row. logits[vocab_size] are the model's own and stay unchanged. position: of the token that `row` predicts.
// Equal logits are ordered by token id. NaN logits count as -infinity.
RowOutput sample_row(const Row& row, std::span<const float> logits, const SlotState& state, int64_t position,
                     SamplerScratch& scratch);

}  // namespace spate
