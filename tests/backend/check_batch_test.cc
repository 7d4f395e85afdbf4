#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

#include "backend/executor.h"

namespace spate {
namespace {

constexpr ExecutorLimits kLimits{.max_seqs = 4, .max_step_tokens = 64, .n_pages = 8};
constexpr int kVocab = 100;

// Slot 2 begins a prompt of 33 tokens; slot 0 decodes its 64th, drawn by the step before.
StepBatch good_batch() {
  StepBatch batch;
  batch.tokens.assign(34, 7);
  batch.from_row.assign(34, -1);
  batch.from_row[33] = 0;
  batch.slot = {2, 0};
  batch.q_start = {0, 33, 34};
  batch.kv_len = {33, 64};
  batch.groups = {{.start = {0, 2, 4}, .pages = {5, 1, 0, 7}}};
  batch.rows = {{.token_index = 31, .slot = 2, .kind = RowKind::kScore, .target = 99},
                {.token_index = 32, .slot = 2},
                {.token_index = 33, .slot = 0, .n_logprobs = kMaxLogprobs}};
  SlotOp op;
  op.slot = 2;
  op.n_prompt_tokens = 33;
  op.logit_bias = {{3, -std::numeric_limits<float>::infinity()}};
  batch.slot_ops = {op};
  return batch;
}

TEST(CheckBatch, GoodBatch_Passes) {
  check_batch(good_batch(), kLimits, kVocab);
}

TEST(CheckBatch, SharedPagesThatNobodyWrites_Pass) {
  StepBatch batch = good_batch();
  batch.groups[0].start = {0, 2, 4};
  batch.groups[0].pages = {5, 1, 5, 7};  // slot 0 reads page 5 at positions 0..31
  batch.q_start = {0, 1, 2};             // slot 2 writes position 32 only
  batch.tokens.resize(2);
  batch.from_row = {-1, -1};
  batch.rows = {};
  check_batch(batch, kLimits, kVocab);
}

struct BadBatch {
  const char* message;  // a part of what is printed
  std::function<void(StepBatch&)> spoil;
};

TEST(CheckBatchDeathTest, EachBreachOfTheContract_IsCaught) {
  const BadBatch cases[] = {
      {"0 tokens in a step",
       [](StepBatch& b) {
         b.tokens.clear();
         b.from_row.clear();
       }},
      {"65 tokens in a step of at most 64", [](StepBatch& b) { b.tokens.resize(65); }},
      {"from_row.size", [](StepBatch& b) { b.from_row.pop_back(); }},
      {"from_row.4. = -2", [](StepBatch& b) { b.from_row[4] = -2; }},
      {"token 100 of a vocabulary of 100", [](StepBatch& b) { b.tokens[0] = 100; }},
      {"token -1 of", [](StepBatch& b) { b.tokens[0] = -1; }},
      {"slot 4 of 4", [](StepBatch& b) { b.slot[1] = 4; }},
      {"slot 2 twice", [](StepBatch& b) { b.slot[1] = 2; }},
      {"q_start", [](StepBatch& b) { b.q_start[2] = 33; }},
      {"brings 0 tokens", [](StepBatch& b) { b.q_start[1] = 0; }},
      {"kv_len 32 with 33 new tokens", [](StepBatch& b) { b.kv_len[0] = 32; }},
      {"0 groups", [](StepBatch& b) { b.groups.clear(); }},
      {"page 8 of 8", [](StepBatch& b) { b.groups[0].pages[2] = 8; }},
      {"2 pages for 65 tokens", [](StepBatch& b) { b.kv_len[1] = 65; }},
      {"table.start", [](StepBatch& b) { b.groups[0].pages.push_back(3); }},
      {"page 7, written by slot 0, is listed twice", [](StepBatch& b) { b.groups[0].pages[2] = 7; }},
      {"page 5, written by slot 2, is listed twice", [](StepBatch& b) { b.groups[0].pages[2] = 5; }},
      {"row of token 31 after that of 32", [](StepBatch& b) { std::swap(b.rows[0], b.rows[1]); }},
      {"row of token 34", [](StepBatch& b) { b.rows[2].token_index = 34; }},
      {"row of slot 1 for a token of slot 0", [](StepBatch& b) { b.rows[2].slot = 1; }},
      {"n_logprobs = 33", [](StepBatch& b) { b.rows[0].n_logprobs = 33; }},
      {"target 100", [](StepBatch& b) { b.rows[0].target = 100; }},
      {"slot -1 of 4", [](StepBatch& b) { b.slot_ops[0].slot = -1; }},
      {"temperature = nan", [](StepBatch& b) { b.slot_ops[0].sampling.temperature = NAN; }},
      {"repetition_penalty = 0", [](StepBatch& b) { b.slot_ops[0].sampling.repetition_penalty = 0; }},
      {"top_p = -1", [](StepBatch& b) { b.slot_ops[0].sampling.top_p = -1; }},
      {"min_p = 1.5", [](StepBatch& b) { b.slot_ops[0].sampling.min_p = 1.5f; }},
      {"top_k = -1", [](StepBatch& b) { b.slot_ops[0].sampling.top_k = -1; }},
      {"1025 biased tokens", [](StepBatch& b) { b.slot_ops[0].logit_bias.resize(1025); }},
      {"biased token 100", [](StepBatch& b) { b.slot_ops[0].logit_bias[0].token = 100; }},
      {"bias of token 3", [](StepBatch& b) { b.slot_ops[0].logit_bias[0].bias = NAN; }},
      {"history token 100", [](StepBatch& b) { b.slot_ops[0].history = {100}; }},
  };
  for (const BadBatch& bad : cases) {
    StepBatch batch = good_batch();
    bad.spoil(batch);
    EXPECT_DEATH(check_batch(batch, kLimits, kVocab), bad.message);
  }
}

}  // namespace
}  // namespace spate
