// One answer on its way through the engine: a choice of a request.
#pragma once

#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include "engine/kv_pages.h"
#include "engine/output_text.h"
#include "engine/request.h"

namespace spate {

// The order in which sequences are served: by due time, and what is due together by number.
struct Rank {
  EngineTime due = {};  // when it was submitted, less a head start for its priority
  RequestId id = 0;
  int choice = 0;

  friend auto operator<=>(const Rank&, const Rank&) = default;
};

// Planning runs ahead of the tokens: `n_planned` and the other counts of what was planned are of the steps enqueued,
// `tokens` is what has come back.
struct Sequence {
  enum class State : uint8_t { kWaiting, kRunning, kFinished };

  Request request;
  Rank rank;
  std::shared_ptr<const OutputSink> sink;  // shared by the request's choices
  OutputText text;
  int max_tokens = 0;  // request.max_tokens, or the room in the context where that is less
  // Choice 0 of the same request, where this one may wait for the pages of the prompt.
  std::weak_ptr<const Sequence> leader = {};

  State state = State::kWaiting;
  std::vector<int32_t> tokens = {};  // the prompt, then the generated tokens known so far

  // Kept when it is preempted:
  int n_samples_planned = 0;        // tokens drawn by the steps enqueued, <= max_tokens
  int n_prompt_rows_planned = 0;    // leading prompt positions whose score or hidden state was asked for
  std::vector<double> hidden = {};  // [d_model], with pooling: what has come back of them, added up
  StepId last_step = 0;             // that names its slot and pages

  // While running:
  int32_t slot = -1;
  std::vector<int32_t> pages = {};  // cover n_planned positions
  int n_published = 0;              // leading pages that the prefix cache knows
  int n_planned = 0;                // positions whose tokens run in the steps enqueued, or were cached
  int n_known_at_start = 0;         // tokens when it was admitted: these are prefilled, what follows is decoded
  int32_t drawn_row = -1;           // of last_step: its last row of this sequence, which draws the next token

  // For its RequestCost:
  EngineTime submitted = {}, admitted = {}, first_token = {};
  int n_cached_tokens = 0;
  int n_preemptions = 0;
  bool was_admitted = false;

  RequestId id() const { return rank.id; }
  int n_tokens() const { return static_cast<int>(tokens.size()); }
  int n_prompt() const { return static_cast<int>(request.prompt.size()); }
  int n_generated() const { return n_tokens() - n_prompt(); }
  // Positions that ever need KV: the last token drawn never runs.
  int max_kv_tokens() const { return n_prompt() + (max_tokens > 0 ? max_tokens - 1 : 0); }
  bool wants_prefill() const { return n_planned < n_known_at_start; }
  bool wants_decode() const { return !wants_prefill() && n_samples_planned < max_tokens; }

  // Leading positions of which a row is wanted for each: all but the prompt's last to score them, all for a mean.
  int n_prompt_rows() const {
    if (request.prompt_logprobs) return n_prompt() - 1;
    return request.pooling == Pooling::kMean ? n_prompt() : 0;
  }
  // Tokens whose KV may come from the cache: never the last, whose logits are wanted, nor any whose row is.
  int max_cached_tokens() const {
    return n_prompt_rows_planned < n_prompt_rows() ? n_prompt_rows_planned : n_tokens() - 1;
  }
};

}  // namespace spate
