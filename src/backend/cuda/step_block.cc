#include "backend/cuda/step_block.h"

#include <algorithm>

namespace spate::cuda {

namespace {

constexpr int64_t kCounts = 2;
// Copied along rather than left out: what a second copy costs, a few microseconds, moves this much over PCIe.
constexpr int64_t kMaxGapBytes = 64 << 10;

template <typename T>
T* at(std::byte* block, int64_t offset) {
  return reinterpret_cast<T*>(block + offset);
}
template <typename T>
const T* at(const std::byte* block, int64_t offset) {
  return reinterpret_cast<const T*>(block + offset);
}

int n_pages_needed(int32_t kv_len) {
  return (kv_len + kPageTokens - 1) / kPageTokens;
}

void fill_tokens(const StepBatch& batch, const StepLayout& layout, std::byte* block) {
  const int n_tokens = batch.n_tokens(), room = layout.shape.n_tokens;
  auto* tokens = at<int32_t>(block, layout.tokens);
  auto* from_row = at<int32_t>(block, layout.from_row);
  for (int t = 0; t < n_tokens; ++t) {
    // A token that is still on the device has any number in the batch.
    tokens[t] = batch.from_row[t] < 0 ? batch.tokens[t] : 0;
    from_row[t] = batch.from_row[t];
  }
  std::fill(tokens + n_tokens, tokens + room, 0);
  std::fill(from_row + n_tokens, from_row + room, -1);
  fill_places(batch, {at<TokenPlace>(block, layout.places), static_cast<size_t>(room)});
}

// Returns the block's end. Pages that a sequence lists beyond its length are left out.
int64_t fill_sequences(const StepBatch& batch, const StepLayout& layout, std::span<std::byte> block) {
  std::ranges::copy(batch.q_start, at<int32_t>(block.data(), layout.q_start));
  std::ranges::copy(batch.kv_len, at<int32_t>(block.data(), layout.kv_len));
  auto* pages = at<int32_t>(block.data(), layout.pages);
  const int64_t room = (static_cast<int64_t>(block.size()) - layout.pages) / static_cast<int64_t>(sizeof(int32_t));
  const PageTable& table = batch.groups[0];
  int32_t n_pages = 0;
  for (int s = 0; s < batch.n_seqs(); ++s) {
    const int n = n_pages_needed(batch.kv_len[s]);
    SPATE_CHECK(n_pages + n <= room, "{} pages are listed where there is room for {}", n_pages + n, room);
    std::copy_n(table.pages.begin() + table.start[s], n, pages + n_pages);
    n_pages += n;
  }
  return layout.pages + n_pages * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace

StepLayout::StepLayout(const StepShape& room, int64_t attention_bytes) : shape(room) {
  int64_t end = 0;
  const auto place = [&end](int64_t n_elems, size_t elem_bytes) {
    const int64_t begin = end;
    end += (n_elems * static_cast<int64_t>(elem_bytes) + 15) / 16 * 16;
    return begin;
  };
  counts = place(kCounts, sizeof(int32_t));
  tokens = place(shape.n_tokens, sizeof(int32_t));
  from_row = place(shape.n_tokens, sizeof(int32_t));
  places = place(shape.n_tokens, sizeof(TokenPlace));
  token_counts = place(shape.n_tokens, sizeof(TokenCount));
  q_start = place(shape.n_seqs + 1, sizeof(int32_t));
  kv_len = place(shape.n_seqs, sizeof(int32_t));
  row_tokens = place(shape.n_rows, sizeof(int32_t));
  rows = place(shape.n_rows, sizeof(RowSpec));
  attention = place(attention_bytes, 1);
  pages = end;
}

DeviceStep device_step(const StepLayout& layout, const AttentionPlanner& planner, const std::byte* block) {
  const auto* counts = at<int32_t>(block, layout.counts);
  return {.batch = {.tokens = at<int32_t>(block, layout.tokens),
                    .from_row = at<int32_t>(block, layout.from_row),
                    .places = at<TokenPlace>(block, layout.places),
                    .q_start = at<int32_t>(block, layout.q_start),
                    .kv_len = at<int32_t>(block, layout.kv_len),
                    .pages = at<int32_t>(block, layout.pages),
                    .n_seqs_real = counts},
          .attention = planner.work_at(block + layout.attention),
          .n_rows_real = counts + 1,
          .row_tokens = at<int32_t>(block, layout.row_tokens),
          .rows = at<RowSpec>(block, layout.rows),
          .token_counts = at<TokenCount>(block, layout.token_counts)};
}

int64_t max_listed_pages(const ExecutorLimits& limits, int context_length) {
  const int64_t every_sequence_whole = int64_t{limits.max_seqs} * n_pages_needed(context_length);
  return std::min(int64_t{limits.max_seqs} * limits.n_pages,
                  std::max(every_sequence_whole, int64_t{4} * limits.n_pages));
}

int64_t max_block_bytes(const ExecutorLimits& limits, int max_rows, int64_t attention_bytes, int64_t max_pages) {
  const StepLayout layout({limits.max_step_tokens, limits.max_seqs, max_rows}, attention_bytes);
  return layout.pages + max_pages * static_cast<int64_t>(sizeof(int32_t));
}

void fill_places(const StepBatch& batch, std::span<TokenPlace> places) {
  const PageTable& table = batch.groups[0];
  for (int s = 0; s < batch.n_seqs(); ++s) {
    const int32_t* pages = table.pages.data() + table.start[s];
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
      const int32_t position = batch.kv_len[s] - batch.q_start[s + 1] + t;
      places[t] = {.position = position, .page_plus_1 = pages[position / kPageTokens] + 1};
    }
  }
  std::ranges::fill(places.subspan(batch.tokens.size()), TokenPlace{});
}

FilledBlock fill_block(const StepBatch& batch, const StepLayout& layout, const SlotTable& slots, int max_slice_rows,
                       int d_model, AttentionPlanner& planner, std::span<std::byte> block, RowPlan& plan) {
  SPATE_CHECK(batch.n_tokens() <= layout.shape.n_tokens && batch.n_seqs() <= layout.shape.n_seqs &&
                  batch.n_rows() <= layout.shape.n_rows,
              "{} tokens, {} sequences and {} rows where there is room for {}, {} and {}", batch.n_tokens(),
              batch.n_seqs(), batch.n_rows(), layout.shape.n_tokens, layout.shape.n_seqs, layout.shape.n_rows);
  auto* counts = at<int32_t>(block.data(), layout.counts);
  counts[0] = batch.n_seqs();
  counts[1] = batch.n_rows();
  fill_tokens(batch, layout, block.data());
  const int64_t end = fill_sequences(batch, layout, block);

  auto* row_tokens = at<int32_t>(block.data(), layout.row_tokens);
  std::fill_n(row_tokens, layout.shape.n_rows, -1);
  for (int r = 0; r < batch.n_rows(); ++r) row_tokens[r] = batch.rows[r].token_index;
  plan_rows(batch, slots, max_slice_rows, d_model,
            {at<RowSpec>(block.data(), layout.rows), static_cast<size_t>(layout.shape.n_rows)},
            {at<TokenCount>(block.data(), layout.token_counts), static_cast<size_t>(layout.shape.n_tokens)}, plan);

  const std::span work = block.subspan(layout.attention, layout.pages - layout.attention);
  const std::span pages(at<int32_t>(block.data(), layout.pages), static_cast<size_t>((end - layout.pages) / 4));
  const AttentionPlanner::Planned planned = planner.plan(batch.q_start, batch.kv_len, pages, work, layout.shape.n_seqs);
  const int64_t head = layout.attention + planned.used_bytes;
  if (layout.pages - head <= kMaxGapBytes)
    return {.grid = planned.grid, .head_bytes = end, .tail_begin = end, .tail_end = end};
  return {.grid = planned.grid, .head_bytes = head, .tail_begin = layout.pages, .tail_end = end};
}

}  // namespace spate::cuda
