// Where a step's arrays stand in its block, and what is filled in without a device.
#include "backend/cuda/step_block.h"

#include <bit>
#include <gtest/gtest.h>
#include <vector>

namespace spate::cuda::testing {
namespace {

TEST(StepLayout, ArraysDoNotOverlapAndAreAligned) {
  const StepLayout layout({.n_tokens = 5, .n_seqs = 3, .n_rows = 7}, 1000);
  const int64_t sizes[][2] = {{layout.counts, 8},       {layout.tokens, 20},       {layout.from_row, 20},
                              {layout.places, 40},      {layout.token_counts, 40}, {layout.q_start, 16},
                              {layout.kv_len, 12},      {layout.row_tokens, 28},   {layout.rows, 7 * 32},
                              {layout.attention, 1000}, {layout.pages, 1 << 20}};
  int64_t end = 0;
  for (const auto& [offset, n_bytes] : sizes) {
    EXPECT_EQ(offset % 16, 0);
    EXPECT_GE(offset, end);
    end = offset + n_bytes;
  }
}

// A prompt's second chunk across the border of two pages, a decode, and one that fills its page; pages listed beyond a
// sequence's length.
StepBatch three_sequences() {
  StepBatch batch;
  batch.tokens = batch.from_row = std::vector<int32_t>(6, -1);
  batch.slot = {0, 1, 2};
  batch.q_start = {0, 4, 5, 6};
  batch.kv_len = {34, 1, 64};
  batch.groups = {{.start = {0, 3, 4, 6}, .pages = {7, 5, 9, 0, 3, 4}}};
  return batch;
}

TEST(StepPlaces, TokensStandInTheirSequencesPages) {
  std::vector<TokenPlace> places(6);
  fill_places(three_sequences(), places);
  const int expected[][2] = {{30, 7}, {31, 7}, {32, 5}, {33, 5}, {0, 0}, {63, 4}};
  for (size_t t = 0; t < places.size(); ++t) {
    EXPECT_EQ(places[t].position, expected[t][0]) << "token " << t;
    EXPECT_EQ(places[t].page(), expected[t][1]) << "token " << t;
    EXPECT_FALSE(places[t].is_padding()) << "token " << t;
  }
}

// In a block that has held a larger step.
TEST(StepPlaces, BeyondTheBatch_IsPadding) {
  std::vector<TokenPlace> places(9, {.position = 5, .page_plus_1 = 3});
  fill_places(three_sequences(), places);
  for (size_t t = 0; t < places.size(); ++t) EXPECT_EQ(places[t].is_padding(), t >= 6) << "token " << t;
  EXPECT_EQ(places.back().page(), -1);
}

// The executor warms up on a block of zeros.
TEST(StepPlaces, Zeros_ArePadding) {
  EXPECT_EQ(sizeof(TokenPlace), 8u);
  const int64_t zeros = 0;
  EXPECT_TRUE(std::bit_cast<TokenPlace>(zeros).is_padding());
}

}  // namespace
}  // namespace spate::cuda::testing
