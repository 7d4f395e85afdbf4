// A request on its way through the engine.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/output_text.h"
#include "engine/page_pool.h"
#include "engine/request.h"

namespace spate {

// Planning runs ahead of the tokens: `n_planned` and `n_samples_planned` count what has been enqueued, `tokens` what
// has come back.
struct Sequence {
  enum class State { kWaiting, kRunning, kFinished };

  RequestId id = 0;
  Request request;
  OutputSink sink;
  OutputText text;
  int max_tokens = 0;  // request.max_tokens, or the room in the context where that is less

  State state = State::kWaiting;
  std::vector<int32_t> tokens = {};  // the prompt, then the generated tokens known so far

  // While running:
  int32_t slot = -1;
  std::vector<int32_t> pages = {};  // cover n_planned positions
  int n_planned = 0;                // positions whose tokens run in the steps enqueued
  int n_samples_planned = 0;        // tokens drawn by the steps enqueued, <= max_tokens
  StepId last_step = 0;             // that names the slot and the pages
  int32_t drawn_row = -1;           // of last_step: its last row of this sequence, which draws the next token

  int n_prompt() const { return static_cast<int>(request.prompt.size()); }
  int n_generated() const { return static_cast<int>(tokens.size()) - n_prompt(); }
  // Positions that ever need KV: the last token drawn never runs.
  int max_kv_tokens() const { return n_prompt() + (max_tokens > 0 ? max_tokens - 1 : 0); }
  bool wants_prefill() const { return n_planned < n_prompt(); }
  bool wants_decode() const { return !wants_prefill() && n_samples_planned < max_tokens; }
};

}  // namespace spate
