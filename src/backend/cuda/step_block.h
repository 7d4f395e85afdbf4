// What a step's kernels read: all of its StepBatch as arrays, its attention work and its rows, in one block that is
// filled in page-locked memory and copied to the device before the step. The block holds what the step needs and no
// more, so the addresses depend on how many tokens, sequences and rows there is room for (StepShape): a step that
// replays a graph takes the shape of the graph's bucket and finds its arrays where the graph reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/sampling.h"
#include "backend/executor.h"

namespace spate::cuda {

// Room in a block.
struct StepShape {
  int n_tokens = 0, n_seqs = 0, n_rows = 0;
};

// Where the arrays stand, in bytes from the block's start, each at a multiple of 16.
struct StepLayout {
  StepShape shape;
  int64_t counts;        // int32: sequences and rows that are real
  int64_t tokens;        // int32 [n_tokens]
  int64_t from_row;      // int32 [n_tokens]
  int64_t places;        // TokenPlace [n_tokens]
  int64_t token_counts;  // TokenCount [n_tokens]
  int64_t q_start;       // int32 [n_seqs + 1]
  int64_t kv_len;        // int32 [n_seqs]
  int64_t row_tokens;    // int32 [n_rows]
  int64_t rows;          // RowSpec [n_rows]
  int64_t attention;     // [attention_bytes] AttentionPlanner's
  int64_t pages;         // int32, to the block's end

  StepLayout(const StepShape& room, int64_t attention_bytes);
};

// The arrays of a block on the device.
struct DeviceStep {
  DeviceBatch batch;
  AttentionWork attention;
  const int32_t* n_rows_real;      // [1]
  const int32_t* row_tokens;       // [n_rows] the token that each row follows; -1 for padding
  const RowSpec* rows;             // [n_rows]
  const TokenCount* token_counts;  // [n_tokens]
};
DeviceStep device_step(const StepLayout& layout, const AttentionPlanner& planner, const std::byte* block);

// Page numbers that a step lists at most: of sequences as long as the model was trained for, or of the whole pool four
// times over, where that is more.
int64_t max_listed_pages(const ExecutorLimits& limits, int context_length);

// Bytes of a block that holds any step.
int64_t max_block_bytes(const ExecutorLimits& limits, int max_rows, int64_t attention_bytes, int64_t max_pages);

// What of a filled block goes to the device: [0, head_bytes) and [tail_begin, tail_end). Where little lies between, the
// tail is empty and the head covers both: one copy is quicker than two short ones.
struct FilledBlock {
  AttentionGrid grid;  // that the step's attention needs
  int64_t head_bytes;
  int64_t tail_begin, tail_end;
};

// Where the batch's tokens stand; places beyond them are padding. places: at least as many as tokens.
void fill_places(const StepBatch& batch, std::span<TokenPlace> places);

// Writes the batch where the layout says; entries of tokens and rows beyond the batch's own are padding that kernels
// leave alone. block: zeroed once, large enough (CHECK). Allocates nothing once `plan` has grown.
FilledBlock fill_block(const StepBatch& batch, const StepLayout& layout, const SlotTable& slots, int max_slice_rows,
                       int d_model, AttentionPlanner& planner, std::span<std::byte> block, RowPlan& plan);

}  // namespace spate::cuda
