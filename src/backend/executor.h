// The seam between what runs requests (engine/) and what runs layers (a backend). Above it nothing knows about kernels;
// below it nothing knows about requests.
//
// One step runs T tokens of S sequences: a decode brings one token a sequence, a prefill chunk many, and both mix in
// one step. Two steps may be in flight: step N + 1 is enqueued before step N's tokens have reached the host, and takes
// them through `from_row`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace spate {

inline constexpr int kPageTokens = 32;  // tokens a KV page
inline constexpr int kMaxStepsInFlight = 2;

using StepId = uint64_t;  // counts enqueued steps, from 1

// How the next token of a row is drawn. Filters apply in the order of the fields, penalties and bias first.
struct SamplingParams {
  float repetition_penalty =
      1;  // > 0; divides positive and multiplies negative logits of tokens in the context (Keskar et al. 2019)
  float presence_penalty = 0;   // subtracted once from the logit of a token that was generated
  float frequency_penalty = 0;  // subtracted for each time that a token was generated
  float temperature = 0;        // >= 0; 0 is greedy
  int top_k = 0;                // keep the k most likely; 0 keeps all
  float typical_p = 1;          // locally typical sampling (Meister et al. 2022); 1 keeps all
  float top_p = 1;              // nucleus (Holtzman et al. 2020); 1 keeps all
  float min_p = 0;    // keep tokens with at least this share of the most likely one's probability; 0 keeps all
  uint64_t seed = 0;  // draws are a function of (seed, position) alone
};

struct LogitBias {
  int32_t token;
  float bias;  // added to the logit before anything else; -infinity forbids the token
};

inline constexpr int kMaxLogitBias = 1024;

// State that the executor keeps for a slot, set before the step's tokens run.
struct SlotOp {
  int32_t slot = 0;
  // Forgets what the slot held and starts a sequence: its sampling, and how many leading positions are prompt (tokens
  // at later positions count as generated, for the penalties).
  SamplingParams sampling = {};
  std::vector<LogitBias> logit_bias = {};  // at most kMaxLogitBias
  int32_t n_prompt_tokens = 0;
  // Tokens at positions [0, history.size()) that are already in KV pages (a prefix-cache hit) and will not pass through
  // tokens[]; the penalties count them.
  std::vector<int32_t> history = {};
};

enum class RowKind : uint8_t {
  kSample,  // draw the next token
  kScore,   // log-probability of `target` as the next token, and the most likely token; no penalties, no temperature
  kHidden,  // the final hidden state after the last norm, [d_model]
};

struct Row {
  int32_t token_index = 0;  // into tokens[]: the row predicts what follows that token
  int32_t slot = 0;
  RowKind kind = RowKind::kSample;
  int32_t target = 0;      // kScore
  int32_t n_logprobs = 0;  // kSample, kScore: this many most likely tokens are returned, at most kMaxLogprobs
};
inline constexpr int kMaxLogprobs = 32;

// Page lists in CSR form, one a group of layers that share them.
struct PageTable {
  std::vector<int32_t> start;  // [S + 1]
  std::vector<int32_t> pages;  // [start[S]]; sequence s holds positions [32 i, 32 i + 32) in pages[start[s] + i]
};

// Everything one step does; plain data, sized by its vectors.
struct StepBatch {
  std::vector<int32_t> tokens;    // [T] token ids; ignored where from_row >= 0
  std::vector<int32_t> from_row;  // [T] -1, or the row of the previous step whose sampled token this is
  std::vector<SlotOp> slot_ops;
  std::vector<int32_t> slot;     // [S] distinct, < max_seqs
  std::vector<int32_t> q_start;  // [S + 1]; sequence s brings tokens [q_start[s], q_start[s + 1]), at least one
  std::vector<int32_t> kv_len;   // [S] tokens in the sequence once the step has run; its last is at position kv_len - 1
  std::vector<PageTable> groups;  // [G], 1 today; the pages cover kv_len tokens
  std::vector<Row> rows;          // [R], by ascending token_index

  int n_tokens() const { return static_cast<int>(tokens.size()); }
  int n_seqs() const { return static_cast<int>(slot.size()); }
  int n_rows() const { return static_cast<int>(rows.size()); }
};

struct TokenLogprob {
  int32_t token;
  float logprob;
};

struct RowOutput {
  int32_t token = 0;  // kSample: the token drawn; kScore: the most likely one
  float logprob = 0;  // kSample: of `token`; kScore: of `target`; from the model's own distribution (before any filter)
  std::vector<TokenLogprob> top;  // [n_logprobs], most likely first
  std::vector<float> hidden;      // kHidden: [d_model]
};

struct StepOutput {
  std::vector<RowOutput> rows;  // [R], in the batch's order
};

// Limits fixed when an executor is made; everything it needs is allocated then.
struct ExecutorLimits {
  int max_seqs = 0;         // slots
  int max_step_tokens = 0;  // T of a step at most
  int n_pages = 0;          // of the KV pool, kPageTokens each
};

// Called by one thread at a time, except that wait() may run beside enqueue().
class Executor {
 public:
  virtual ~Executor() = default;

  virtual const ExecutorLimits& limits() const = 0;

  // One line for people: device, threads, instruction set.
  virtual std::string description() const = 0;

  // Takes a copy of what it needs and returns at once. At most kMaxStepsInFlight steps may be enqueued and not waited
  // for. Steps run in order. A batch that breaks the contract above is the caller's bug (CHECK).
  virtual StepId enqueue(const StepBatch& batch) = 0;

  // Blocks until the step, the oldest not waited for, has run. Error kBackend / kIo: the device failed or the model's
  // file was damaged beneath a mapping; every later step fails too.
  virtual Result<StepOutput> wait(StepId step) = 0;
};

// CHECKs a batch against the contract; for executors to call. vocab_size bounds the token ids.
void check_batch(const StepBatch& batch, const ExecutorLimits& limits, int vocab_size);

}  // namespace spate
