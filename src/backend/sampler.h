// Drawing tokens from logits on the host: the sampler of the CPU and the reference executors, and the truth that a
// device's sampler is tested against.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/executor.h"

namespace spate {

// Philox4x32 with ten rounds, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011).
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A uniform draw in [0, 1) in steps of 2^-24, a function of its arguments alone: the upper bits of the first word of
// Philox4x32-10 with key = seed and counter = (position, 0), low words first. The position is that of the token being
// drawn, so preemption and batching never change a draw.
float uniform_draw(uint64_t seed, uint64_t position);

// What penalties and bias need to know of one sequence. One per slot, reused; memory is taken only when penalties are
// on.
class SlotState {
 public:
  void reset(const SlotOp& op, int vocab_size);
  // Counts a token that entered the context at `position`.
  void count(int32_t token, int32_t position);

  const SamplingParams& sampling() const { return sampling_; }
  // Whether apply() would change any logit.
  bool changes_logits() const { return !logit_bias_.empty() || !seen_.empty(); }
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

// A token that a filter has not yet removed.
struct Candidate {
  int32_t token;
  float key;     // what the filter at work orders by, greatest first
  float weight;  // > 0; proportional to the token's probability
};

// Scratch memory of one sampling thread; it grows to the vocabulary once.
struct SamplerScratch {
  std::vector<float> logits;          // [vocab_size] after bias and penalties
  std::vector<Candidate> candidates;  // what the filters keep, by ascending token
  std::vector<Candidate> selection;   // a copy for a filter to reorder
};

// One row, of kind kSample or kScore. logits[vocab_size] are the model's own and stay unchanged. position: of the token
// that `row` predicts. Equal logits are ordered by token id. NaN logits count as -infinity; logits of +infinity share
// all the probability; where nothing is allowed (every logit -infinity) the first token is drawn. Nothing is allocated
// once the scratch has grown, except the `n_logprobs` of the output.
//
// Each filter sees the distribution that the one before it left, renormalised, and keeps at least one token. The draw
// inverts the cumulative distribution over ascending token ids.
RowOutput sample_row(const Row& row, std::span<const float> logits, const SlotState& state, int64_t position,
                     SamplerScratch& scratch);

}  // namespace spate
