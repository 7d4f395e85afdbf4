// What `spate bench` can measure, and the steps that a measurement takes. It knows the Executor seam and nothing of a
// device.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/executor.h"
#include "base/error.h"

namespace spate {

enum class BenchTest {
  kPrefill,  // `batch` sequences take n_prompt tokens each, in steps of up to max_step_tokens, each drawing one token
  kDecode,   // `batch` sequences draw n_generate tokens each, one a step
  kMixed,    // the same, while one sequence more takes n_prompt tokens, an equal share of them in each step
};
std::string_view bench_test_name(BenchTest test);

struct BenchCase {
  BenchTest test = BenchTest::kDecode;
  int n_prompt = 0;    // 0 for kDecode
  int n_generate = 0;  // 0 for kPrefill
  int batch = 1;
  int depth = 0;  // tokens that each of the `batch` sequences has in its KV pages beforehand

  bool operator==(const BenchCase&) const = default;

  int64_t n_tokens() const;  // that go through the model, all sequences together
  int n_sequences() const { return batch + (test == BenchTest::kMixed ? 1 : 0); }
  int64_t longest_sequence() const;  // tokens
};

struct BenchLists {
  std::vector<BenchTest> tests;
  std::vector<int> prompt, generate, batch, depth;  // prompts or generations of 0 tokens are left out
};

// Every combination that its test uses, tests outermost, then prompts, generations, depths, batches.
std::vector<BenchCase> bench_cases(const BenchLists& lists);

// Of an executor that can run all the cases. Error kOutOfResources: more KV pages than can be counted.
Result<ExecutorLimits> bench_limits(const std::vector<BenchCase>& cases, int max_step_tokens);

// The steps of one case: sequence s in slot s, in consecutive pages of its own; random tokens; greedy draws.
class BenchSteps {
 public:
  // The steps fit limits as bench_limits() gives them.
  BenchSteps(const BenchCase& bench_case, int max_step_tokens, int vocab_size, uint64_t seed);

  // Fill the pages up to the case's depth; none where that is 0.
  std::vector<StepBatch> fill() const;
  // One repetition. It begins the sequences anew behind the filled pages, so it can be run again and again.
  std::vector<StepBatch> measured() const;

 private:
  // Tokens [begin, end) of a sequence in a step.
  struct Piece {
    int sequence;
    int begin, end;
    bool draws;  // the token after `end`
  };

  std::vector<StepBatch> prompts(int begin, int end, int history, bool draw) const;
  std::vector<StepBatch> decodes() const;
  // `previous`: the step before; pieces of one token continue what they drew there.
  StepBatch batch_of(const std::vector<Piece>& pieces, const StepBatch* previous) const;
  void begin_sequence(StepBatch& batch, int sequence, int history) const;
  int32_t token_at(int sequence, int position) const;

  BenchCase case_;
  int max_step_tokens_, vocab_size_;
  uint64_t seed_;
};

}  // namespace spate
