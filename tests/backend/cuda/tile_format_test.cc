// Weight tiles on the host: re-laid from random qblocks and decoded lane by lane, as the kernels do it, against the
// qblocks' own decode.
#include "backend/cuda/tile_format.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "quant/quant_type.h"

#include "support/random_weights.h"

namespace spate::cuda {
namespace {

constexpr int kRows = 16;

// value[16][256] that the lanes of a tile decode, in the matrix's own order.
template <QuantType type>
std::vector<float> decode_tile(const std::byte* tile) {
  using Tile = TileFormat<type>;
  std::vector<float> value(kRows * kTileCols, NAN);
  for (int lane = 0; lane < 32; ++lane) {
    const auto regs = Tile::load(LaneCursor::at(tile, lane));
    const auto cell = [&]<int h, int rh>() {
      const Factors factors = Tile::template factors<h, rh>(regs);
      const auto word = [&]<int c>() {
        Half2Bits pair[4];
        Tile::template weights<h, rh, c>(regs, factors, pair);
        float* out = &value[(lane / 4 + 8 * rh) * kTileCols + 128 * h + 32 * (lane % 4) + 8 * c];
        for (int i = 0; i < 8; ++i) out[i] = f16_to_f32(static_cast<uint16_t>(pair[i / 2] >> (16 * (i % 2))));
      };
      word.template operator()<0>();
      word.template operator()<1>();
      word.template operator()<2>();
      word.template operator()<3>();
    };
    cell.template operator()<0, 0>();
    cell.template operator()<0, 1>();
    cell.template operator()<1, 0>();
    cell.template operator()<1, 1>();
  }
  return value;
}

// Packs and decodes n_rows x n_cols, and compares with the truth: an error of float16's rounding of the scale, of the
// minimum and of the weight itself, so 2^-11 of each, is allowed.
template <QuantType type>
void round_trip(int n_rows, int n_cols, int scale_log2) {
  SCOPED_TRACE(::testing::Message() << quant_name(type) << ' ' << n_rows << " x " << n_cols << " * 2^" << scale_log2);
  const QuantTraits& traits = quant_traits(type);
  const int64_t row_bytes = quant_bytes(type, n_cols);
  const std::vector<std::byte> file = spate::testing::random_weights(type, n_rows, n_cols, 17);
  std::vector<std::byte> tile(TileFormat<type>::kBytes, std::byte{0xff});
  const float power = std::ldexp(1.0f, scale_log2);
  for (int lane = 0; lane < 32; ++lane) {
    const std::byte* row[2];
    for (int rh = 0; rh < 2; ++rh) {
      const int r = lane / 4 + 8 * rh;
      row[rh] = r < n_rows ? file.data() + r * row_bytes : nullptr;
    }
    pack_lane<type>(row, n_cols, power, lane, tile.data());
  }
  const std::vector<float> actual = decode_tile<type>(tile.data());
  std::vector<float> truth(n_cols);
  for (int r = 0; r < kRows; ++r) {
    if (r < n_rows) traits.decode(file.data() + r * row_bytes, n_cols / traits.block_elems, truth.data());
    float largest =
        0;  // of the sub-block's neighbourhood: a minimum is rounded as a whole, however small the weight is
    for (int k = 0; k < n_cols && r < n_rows; ++k) largest = std::max(largest, std::abs(truth[k]));
    for (int k = 0; k < kTileCols; ++k) {
      const float expected = r < n_rows && k < n_cols ? truth[k] * power : 0;
      const float bound = 0x1p-9f * largest * power + 0x1p-23f;
      ASSERT_NEAR(actual[r * kTileCols + k], expected, bound) << "row " << r << ", column " << k;
    }
  }
}

template <QuantType type>
void all_shapes() {
  for (const int scale_log2 : {0, 3}) {
    round_trip<type>(16, 256, scale_log2);
    round_trip<type>(11, 256, scale_log2);
    if (quant_traits(type).block_elems <= 32) {
      round_trip<type>(16, 96, scale_log2);
      round_trip<type>(1, 32, scale_log2);
    }
  }
}

TEST(TileFormat, EveryType_DecodesToItsQblocksValues) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) all_shapes<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

// Every bit of the file is in the tile: as many bytes, and no more.
TEST(TileFormat, TilesHaveTheFilesBytes) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header)                                     \
  if (QuantType::enumerator != QuantType::kF32) {                                                              \
    EXPECT_EQ(TileFormat<QuantType::enumerator>::kBytes, quant_bytes(QuantType::enumerator, kRows* kTileCols)) \
        << #enumerator;                                                                                        \
  }
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

TEST(KPosition, IsAPermutationOfEach128_TwoNeighboursTogether) {
  std::vector<int> seen(256, 0);
  for (int k = 0; k < 256; ++k) {
    const int at = k_position(k);
    ASSERT_EQ(at / 128, k / 128);
    ++seen[at];
    if (k % 2 == 0) {
      EXPECT_EQ(k_position(k + 1), at + 1);
    }
  }
  for (const int count : seen) EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace spate::cuda
