// The KV pages of the sequence that ended last, kept so that a request which begins like it need not compute the same
// keys again: a conversation is such requests, one after the other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/page_pool.h"

namespace spate {

// It answers what a prefix cache is asked, "which pages hold a prefix of this prompt", for one sequence, which is whole
// and has one heir: so its last page, half full, can be gone on with, and no page is ever shared.
struct RetainedKv {
  std::vector<int32_t> tokens = {};  // whose keys are in the pages, by position
  std::vector<int32_t> pages = {};   // cover the tokens; they may go on
  StepId last_step = 0;              // that names the pages

  // Leading tokens of the prompt whose keys are here; never the prompt's last, whose logits are wanted.
  int n_reusable(std::span<const int32_t> prompt) const;
};

}  // namespace spate
