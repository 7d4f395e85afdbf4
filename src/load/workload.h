// What a load asks for: prompts and lengths, the same for the same seed whatever the server does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

#include "load/lengths.h"
#include "load/random.h"

namespace spate::load {

// One request of a trace.
struct TraceEntry {
  double at_s = 0;  // after the trace's first
  int prompt_tokens = 1, output_tokens = 1;
};

// A trace is lines of JSON, {"timestamp": milliseconds, "input_length": tokens, "output_length": tokens}, other members
// ignored, in the order of their timestamps; without timestamps it is a list of lengths (has_times).
struct Trace {
  std::vector<TraceEntry> entries;
  bool has_times = false;
  // name: what to call it in messages. Error kUsage, with the line.
  static Result<Trace> parse(std::string_view text, std::string_view name);
};

// What stands for a token in a prompt.
enum class PromptUnit {
  kLetter,  // random lower-case letters: one token each for vocabularies of bytes, two or three letters a token for
            // others
  kWord,    // common English words with a space before each: close to one token each for most vocabularies
  kId,      // random token ids, for the completions API alone: exactly one each
};

struct WorkloadOptions {
  Lengths prompt = Lengths::fixed(512), output = Lengths::fixed(128);
  std::vector<TraceEntry> trace = {};  // the lengths, in this order, and again from its beginning; empty: as above
  PromptUnit unit = PromptUnit::kLetter;
  int n_ids = 0;  // kId: ids are below this
  int shared_prefix =
      0;               // units that a prompt begins with and has in common with others; shorter prompts are part of it
  int n_prefixes = 1;  // that many different ones, each prompt with one at random
  uint64_t seed = 1;
};

struct Job {
  std::string text;      // the prompt,
  std::vector<int> ids;  // or its ids for PromptUnit::kId
  int output_tokens = 1;
};

class Workload {
 public:
  explicit Workload(WorkloadOptions options) : options_(std::move(options)) {}

  // Job i >= 0 of a level, which has prompts and prefixes of its own: what one level left in caches does not help the
  // next.
  Job job(int level, int64_t i) const;
  const WorkloadOptions& options() const { return options_; }

 private:
  void append_units(Job& job, Random& random, int n) const;

  WorkloadOptions options_;
};

}  // namespace spate::load
