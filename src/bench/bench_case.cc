#include "bench/bench_case.h"

#include <algorithm>
#include <fmt/core.h>
#include <limits>

#include "base/check.h"
#include "bench/splitmix.h"

namespace spate {

namespace {

int64_t pages_of(int64_t n_tokens) {
  return (n_tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace

std::string_view bench_test_name(BenchTest test) {
  switch (test) {
    case BenchTest::kPrefill:
      return "prefill";
    case BenchTest::kDecode:
      return "decode";
    case BenchTest::kMixed:
      return "mixed";
  }
  return "?";
}

int64_t BenchCase::n_tokens() const {
  const int64_t prompt_sequences = test == BenchTest::kPrefill ? batch : 1;
  return prompt_sequences * n_prompt + int64_t{batch} * n_generate;
}

int64_t BenchCase::longest_sequence() const {
  if (test == BenchTest::kPrefill) return int64_t{depth} + n_prompt;
  return std::max<int64_t>(int64_t{depth} + n_generate, n_prompt);
}

std::vector<BenchCase> bench_cases(const BenchLists& lists) {
  std::vector<BenchCase> cases;
  const std::vector<int> none = {0};
  for (const BenchTest test : lists.tests)
    for (const int n_prompt : test == BenchTest::kDecode ? none : lists.prompt)
      for (const int n_generate : test == BenchTest::kPrefill ? none : lists.generate)
        for (const int depth : lists.depth)
          for (const int batch : lists.batch) {
            if (test != BenchTest::kDecode && n_prompt == 0) continue;
            if (test != BenchTest::kPrefill && n_generate == 0) continue;
            cases.push_back(
                {.test = test, .n_prompt = n_prompt, .n_generate = n_generate, .batch = batch, .depth = depth});
          }
  return cases;
}

Result<ExecutorLimits> bench_limits(const std::vector<BenchCase>& cases, int max_step_tokens) {
  ExecutorLimits limits{.max_step_tokens = max_step_tokens};
  for (const BenchCase& c : cases) {
    const int64_t n_pages = pages_of(c.longest_sequence()) * c.n_sequences();
    if (n_pages > std::numeric_limits<int>::max())
      return Error::out_of_resources(
          fmt::format("{} sequences of {} tokens take {} KV pages, more than can be counted; use a smaller --batch, "
                      "--depth or --prompt",
                      c.n_sequences(), c.longest_sequence(), n_pages));
    limits.max_seqs = std::max(limits.max_seqs, c.n_sequences());
    limits.n_pages = std::max(limits.n_pages, static_cast<int>(n_pages));
    int step_tokens = c.test == BenchTest::kPrefill ? 1 : c.batch;
    if (c.test == BenchTest::kMixed) step_tokens += (c.n_prompt + c.n_generate - 1) / c.n_generate;
    limits.max_step_tokens = std::max(limits.max_step_tokens, step_tokens);
  }
  return limits;
}

BenchSteps::BenchSteps(const BenchCase& bench_case, int max_step_tokens, int vocab_size, uint64_t seed)
    : case_(bench_case), max_step_tokens_(max_step_tokens), vocab_size_(vocab_size), seed_(seed) {
  SPATE_CHECK(case_.batch >= 1 && max_step_tokens >= 1 && vocab_size >= 1 && case_.n_tokens() >= 1);
}

std::vector<StepBatch> BenchSteps::fill() const {
  return case_.depth == 0 ? std::vector<StepBatch>() : prompts(0, case_.depth, 0, false);
}

std::vector<StepBatch> BenchSteps::measured() const {
  if (case_.test == BenchTest::kPrefill) return prompts(case_.depth, case_.depth + case_.n_prompt, case_.depth, true);
  return decodes();
}

// Positions [begin, end) of each of the case's sequences, one sequence after the other.
std::vector<StepBatch> BenchSteps::prompts(int begin, int end, int history, bool draw) const {
  std::vector<StepBatch> steps;
  std::vector<Piece> pieces;
  int n_tokens = 0;
  const auto finish_step = [&] {
    steps.push_back(batch_of(pieces, nullptr));
    for (const Piece& piece : pieces)
      if (piece.begin == begin) begin_sequence(steps.back(), piece.sequence, history);
    pieces.clear();
    n_tokens = 0;
  };
  for (int sequence = 0; sequence < case_.batch; ++sequence)
    for (int position = begin; position < end;) {
      const int n = std::min(end - position, max_step_tokens_ - n_tokens);
      pieces.push_back(
          {.sequence = sequence, .begin = position, .end = position + n, .draws = draw && position + n == end});
      position += n;
      n_tokens += n;
      if (n_tokens == max_step_tokens_) finish_step();
    }
  if (n_tokens > 0) finish_step();
  return steps;
}

// Also of kMixed: the prompt is sequence `batch`, last in each step that has a share of it.
std::vector<StepBatch> BenchSteps::decodes() const {
  std::vector<StepBatch> steps;
  for (int step = 0; step < case_.n_generate; ++step) {
    std::vector<Piece> pieces;
    pieces.reserve(static_cast<size_t>(case_.n_sequences()));
    for (int sequence = 0; sequence < case_.batch; ++sequence)
      pieces.push_back(
          {.sequence = sequence, .begin = case_.depth + step, .end = case_.depth + step + 1, .draws = true});
    const auto share_end = [&](int n) { return static_cast<int>(int64_t{case_.n_prompt} * n / case_.n_generate); };
    const int begin = share_end(step), end = share_end(step + 1);
    if (begin < end)
      pieces.push_back({.sequence = case_.batch, .begin = begin, .end = end, .draws = end == case_.n_prompt});
    steps.push_back(batch_of(pieces, step == 0 ? nullptr : &steps.back()));
    if (step == 0)
      for (int sequence = 0; sequence < case_.batch; ++sequence) begin_sequence(steps[0], sequence, case_.depth);
    if (begin == 0 && end > 0) begin_sequence(steps.back(), case_.batch, 0);
  }
  return steps;
}

StepBatch BenchSteps::batch_of(const std::vector<Piece>& pieces, const StepBatch* previous) const {
  const auto pages_per_sequence = static_cast<int32_t>(pages_of(case_.longest_sequence()));
  StepBatch batch;
  batch.q_start.push_back(0);
  PageTable table{.start = {0}, .pages = {}};
  for (const Piece& piece : pieces) {
    // The row that drew this token: rows come in the order of sequences, each decoding sequence having one.
    const bool continues = previous != nullptr && piece.sequence < case_.batch;
    for (int position = piece.begin; position < piece.end; ++position) {
      batch.tokens.push_back(token_at(piece.sequence, position));
      batch.from_row.push_back(continues ? piece.sequence : -1);
    }
    batch.slot.push_back(piece.sequence);
    batch.q_start.push_back(batch.n_tokens());
    batch.kv_len.push_back(piece.end);
    const auto n_pages = static_cast<int32_t>(pages_of(piece.end));
    for (int32_t page = 0; page < n_pages; ++page) table.pages.push_back(piece.sequence * pages_per_sequence + page);
    table.start.push_back(static_cast<int32_t>(table.pages.size()));
    if (piece.draws) batch.rows.push_back({.token_index = batch.n_tokens() - 1, .slot = piece.sequence});
  }
  batch.groups.push_back(std::move(table));
  return batch;
}

void BenchSteps::begin_sequence(StepBatch& batch, int sequence, int history) const {
  SlotOp op{.slot = sequence, .n_prompt_tokens = history};
  op.history.reserve(static_cast<size_t>(history));
  for (int position = 0; position < history; ++position) op.history.push_back(token_at(sequence, position));
  batch.slot_ops.push_back(std::move(op));
}

int32_t BenchSteps::token_at(int sequence, int position) const {
  const uint64_t key = static_cast<uint64_t>(sequence) << 32 | static_cast<uint32_t>(position);
  return static_cast<int32_t>(SplitMix(seed_ ^ key).below(static_cast<uint64_t>(vocab_size_)));
}

}  // namespace spate
