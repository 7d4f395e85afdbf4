#include <cstring>
#include <gtest/gtest.h>
#include <string>

#include "backend/cpu/panel_layout.h"
#include "backend/cpu/panel_pack.h"

#include "linear_test_data.h"

namespace spate::cpu {
namespace {

class Panel : public ::testing::TestWithParam<QuantType> {};

TEST_P(Panel, PackThenUnpack_GivesTheSameBits) {
  const int block_elems = quant_traits(GetParam()).block_elems;
  for (int n_valid : {1, 8, 9, 16})
    for (int64_t n_blocks : {1, 3}) {
      const int64_t n_cols = n_blocks * block_elems;
      const auto rows = random_weights(GetParam(), n_valid, n_cols, 7);
      std::vector<std::byte> panel(kPanelRows * quant_bytes(GetParam(), n_cols), std::byte{0xa5});
      pack_panel(GetParam(), rows.data(), n_valid, n_cols, panel.data());
      std::vector<std::byte> again(rows.size(), std::byte{0x5a});
      unpack_panel(GetParam(), panel.data(), n_valid, n_cols, again.data());
      EXPECT_EQ(rows, again) << n_valid << " rows, " << n_blocks << " qblocks";
    }
}

TEST_P(Panel, FromPanelThenBack_GivesTheSameBits) {
  // With the test above: no bit of a panel is unused.
  const int64_t n_cols = quant_traits(GetParam()).block_elems;
  const auto panel = random_weights(GetParam(), kPanelRows, n_cols, 8);
  std::vector<std::byte> rows(panel.size()), again(panel.size());
  unpack_panel(GetParam(), panel.data(), kPanelRows, n_cols, rows.data());
  pack_panel(GetParam(), rows.data(), kPanelRows, n_cols, again.data());
  EXPECT_EQ(panel, again);
}

TEST_P(Panel, RowsBeyondTheMatrix_AreZeroBits) {
  const int64_t n_cols = 2 * quant_traits(GetParam()).block_elems;
  const auto rows = random_weights(GetParam(), 3, n_cols, 9);
  std::vector<std::byte> panel(kPanelRows * quant_bytes(GetParam(), n_cols), std::byte{0xa5}), all(panel.size());
  pack_panel(GetParam(), rows.data(), 3, n_cols, panel.data());
  unpack_panel(GetParam(), panel.data(), kPanelRows, n_cols, all.data());
  for (size_t i = rows.size(); i < all.size(); ++i) ASSERT_EQ(all[i], std::byte{0}) << "byte " << i;
}

INSTANTIATE_TEST_SUITE_P(Types, Panel, ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end()),
                         [](const auto& tested) { return std::string(quant_name(tested.param)); });

TEST(PanelLayout, GroupOfFourColumns_FillsTheLanesOfAVector) {
  // Row r, column c of Q8_0: byte 4 r + c % 4 of vector c / 4.
  std::vector<std::byte> rows(kPanelRows * 34);
  for (int r = 0; r < kPanelRows; ++r)
    for (int c = 0; c < 32; ++c) rows[34 * r + 2 + c] = static_cast<std::byte>(16 * (c % 16) + r);
  PanelBlock<QuantType::kQ8_0> panel;
  pack_panel(QuantType::kQ8_0, rows.data(), kPanelRows, 32, reinterpret_cast<std::byte*>(&panel));
  for (int r = 0; r < kPanelRows; ++r)
    for (int c = 0; c < 32; ++c) EXPECT_EQ(panel.codes[0].bytes[c / 4][4 * r + c % 4], 16 * (c % 16) + r);
}

}  // namespace
}  // namespace spate::cpu
