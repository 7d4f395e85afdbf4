// How long steps take, learned from those that ran: what decides how much of a prompt runs beside people who read.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>

namespace spate {

// The model: a step of D decodes and P prompt tokens takes mixed(D + P) seconds.
//   decode(D)  the median of the last kDecodeSamples steps that decoded and did nothing else, kept by the power of two
//              below D, as a step's time grows with its batch
//   mixed(n)   the median of the last kMixedSamples steps of n tokens with prompts among them, kept by eight lengths to
//              a doubling: devices multiply tokens by the tile, so that 129 may take as long as 256 do, and 128 half of
//              that. By all tokens, as the tiles are of all. Until a length ran beside decodes, of prompts alone. What
//              was not timed in the last kRememberedSteps mixed steps is forgotten, so one bad step does not rule a
//              length out for ever. A length that is not known lies on the line to the next longer one that is, from
//              the next shorter one or from (D, decode(D)), whichever is lower; beyond the longest, on the line through
//              that, as far as twice its tokens. This may be too little: then it is timed once.
// A chunk is the one with which prompts get on fastest, by prompt tokens a second of the whole step, of those that the
// limit allows. So it ends where the device's next tile would begin, and what is left of a prompt begins none alone.
// Lengths not known may take no longer than the next shorter one, and are preferred as if they did; beyond the longest
// known they are tried first. A median of decodes that is missing or stale is measured: the next step has no prompt.
class StepTimes {
 public:
  // limit: a step that decodes takes at most this many times decode(D), by the model; 0: there is no limit.
  explicit StepTimes(double limit) : limit_(limit) {}

  // A step has completed.
  void record(int n_decodes, int n_prompt_tokens, double seconds);

  // Prompt tokens that a step of n_decodes >= 1 may run besides. 0 means that decode(D) is to be measured, which ends
  // after a few steps; otherwise it is at least kLeastChunk. n_wanted >= 1: of all prompts together; no length is
  // thought of that would not be timed.
  int n_prompt_tokens_beside(int n_decodes, int n_wanted = INT_MAX) const;

  // decode(D) in seconds; 0 where it is not known.
  double decode_seconds(int n_decodes) const;

  static constexpr int kDecodeSamples = 9;
  static constexpr int kFewestSamples = 3;  // of a median of decodes
  static constexpr int kFreshSteps = 128;   // that median is measured again when this many steps were mixed since
  static constexpr int kMixedSamples = 3;
  static constexpr int kRememberedSteps = 1024;
  static constexpr int kFirstChunk = 64;  // tokens
  static constexpr int kLeastChunk = 8;   // tokens; prompts get on even where they cost more than the limit

 private:
  struct Samples {
    std::array<double, kDecodeSamples> seconds = {};  // a ring
    int64_t n = 0;                                    // ever taken
    int n_mixed_since = 0;
  };
  struct Length {
    std::array<double, kMixedSamples> seconds = {};  // a ring
    int64_t n = 0;                                   // ever taken, since it was last forgotten
    int64_t timed_at = 0;                            // n_mixed_ then
    bool is_mixed = false;                           // of steps that decoded
  };
  struct Point {
    int n_tokens;
    double seconds;
  };
  static constexpr size_t kLengths = 176;  // up to 2^24 tokens
  static size_t index(int n_decodes);
  bool is_known(size_t length) const;
  Point point(size_t length, double decode) const;
  size_t next_known(size_t length) const;
  void record_mixed(size_t length, double seconds, bool is_mixed);

  double limit_;
  std::array<Samples, 16> decodes_;  // by the power of two below D
  std::array<Length, kLengths> lengths_;
  int64_t n_mixed_ = 0;  // steps
};

}  // namespace spate
