// How long steps take, learned from those that ran: what decides how much of a prompt runs beside people who read.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>

namespace spate {

// The model: a step of D decodes and P prompt tokens takes decode(D) + P * cost(P) seconds.
//   decode(D)  the median of the last kDecodeSamples steps that decoded and did nothing else, kept by the power of two
//              below D, as a step's time grows with its batch
//   cost(P)    seconds a token, kept by the power of two above P: a device may have other kernels for longer chunks, so
//              that 300 tokens take less than 200. Of what mixed steps took beyond decode(D), in sums that forget a
//              tenth with each; until there was one of this length, of steps of prompts alone. A length that was not
//              timed is thought to cost what the next longer one does, which may be too little: then it is timed once.
//              What was not timed lately is believed less and less, so one bad step does not rule a length out for
//              ever; after a while the first step timed anew takes the place of what was known.
// A chunk is the longest that the model allows, but at most twice the longest that was timed. A median that is missing
// or stale is measured: the next step has no prompt.
class StepTimes {
 public:
  // limit: a step that decodes takes at most this many times decode(D), by the model; 0: there is no limit.
  explicit StepTimes(double limit) : limit_(limit) {}

  // A step has completed.
  void record(int n_decodes, int n_prompt_tokens, double seconds);

  // Prompt tokens that a step of n_decodes >= 1 may run besides. 0 means that decode(D) is to be measured, which ends
  // after a few steps; otherwise it is at least kLeastChunk. n_wanted: of all prompts together; no length is thought of
  // that would not be timed.
  int n_prompt_tokens_beside(int n_decodes, int n_wanted = INT_MAX) const;

  // decode(D) in seconds; 0 where it is not known.
  double decode_seconds(int n_decodes) const;
  // cost(P) in seconds a token; 0 where nothing is known.
  double prompt_cost(int n_prompt_tokens) const;

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
  struct Cost {
    double seconds = 0, tokens = 0;  // sums
    double belief = 1;               // falls until a step of this length is timed again
    bool is_mixed = false;           // of mixed steps
    double believed_seconds() const { return seconds * belief; }
  };
  static constexpr int kLengths = 32;
  static size_t index(int n_decodes);
  const Cost* cost_of(int length) const;
  void record_prompt(int n_tokens, double seconds, bool is_mixed);

  double limit_;
  std::array<Samples, 16> decodes_;     // by the power of two below D
  std::array<Cost, kLengths> costs_{};  // by the power of two above P
};

}  // namespace spate
