// How long steps take, learned from those that ran: what decides how much of a prompt runs beside people who read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace spate {

// The model: a step of D decodes and P prompt tokens takes decode(D) + P * prompt_cost seconds.
//   decode(D)    the median of the last kDecodeSamples steps that decoded and did nothing else, kept by the power of
//   two
//                below D, as a step's time grows with its batch
//   prompt_cost  seconds a token, of what the last mixed steps took beyond decode(D): sums that forget a tenth with
//   each
//                step, so tokens count alike however they were cut. Until there was a mixed step, of steps of prompts
//                alone.
// The cost is that of chunks of about the size in use; so a chunk is at most twice the longest that was timed lately.
// A figure that is missing or stale is measured: the next step has no prompt, or a chunk of kFirstChunk tokens.
class StepTimes {
 public:
  // limit: a step that decodes takes at most this many times decode(D), by the model; 0: there is no limit.
  explicit StepTimes(double limit) : limit_(limit) {}

  // A step has completed.
  void record(int n_decodes, int n_prompt_tokens, double seconds);

  // Prompt tokens that a step of n_decodes >= 1 may run besides. 0 means that decode(D) is to be measured, which ends
  // after a few steps; otherwise it is at least kLeastChunk.
  int n_prompt_tokens_beside(int n_decodes) const;

  // decode(D) in seconds; 0 where it is not known.
  double decode_seconds(int n_decodes) const;
  // Seconds a token; 0 where it is not known.
  double prompt_cost() const { return cost_tokens_ > 0 ? cost_seconds_ / cost_tokens_ : 0; }

  static constexpr int kDecodeSamples = 9;
  static constexpr int kFewestSamples = 3;  // of a median
  static constexpr int kFreshSteps = 128;   // a median is measured again when this many steps were mixed since
  static constexpr int kFirstChunk = 64;    // tokens
  static constexpr int kLeastChunk = 8;     // tokens; prompts get on even where they cost more than the limit

 private:
  struct Samples {
    std::array<double, kDecodeSamples> seconds = {};  // a ring
    int64_t n = 0;                                    // ever taken
    int n_mixed_since = 0;
  };
  static size_t index(int n_decodes);

  double limit_;
  std::array<Samples, 16> decodes_;  // by the power of two below D
  double cost_seconds_ = 0, cost_tokens_ = 0;
  double longest_chunk_ = 0;  // tokens; shrinks a little with each mixed step
  bool was_mixed_ = false;
};

}  // namespace spate
