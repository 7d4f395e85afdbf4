// Weight tiles on the host: re-laid from random qblocks and decoded lane by lane, as the kernels do it, against the
// qblocks' own decode.
#include "backend/cuda/tile_format.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "backend/cuda/matmul.h"
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
      const typename Tile::Factors factors = Tile::template factors<h, rh>(regs);
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

// A tile of a matrix of up to 16 rows and 256 columns, packed with the scale that is chosen for it.
template <QuantType type>
struct Packed {
  Packed(const std::vector<std::byte>& file, int n_rows, int n_cols) : tile(TileFormat<type>::kBytes, std::byte{0xff}) {
    const int64_t row_bytes = quant_bytes(type, n_cols);
    const MatrixScale scale = choose_scale(type, file.data(), n_rows, n_cols);
    has_row_factors = !scale.row_factors.empty();
    for (int r = 0; r < kRows; ++r)
      power[r] = std::ldexp(1.0f, scale.log2) / (has_row_factors ? scale.row_factors[r] : 1.0f);
    for (int lane = 0; lane < 32; ++lane) {
      const std::byte* row[2];
      float row_power[2];
      for (int rh = 0; rh < 2; ++rh) {
        const int r = lane / 4 + 8 * rh;
        row[rh] = r < n_rows ? file.data() + r * row_bytes : nullptr;
        row_power[rh] = power[r];
      }
      pack_lane<type>(row, n_cols, row_power, lane, tile.data());
    }
    values = decode_tile<type>(tile.data());
  }

  bool has_row_factors;
  float power[kRows];  // values are weights times this
  std::vector<std::byte> tile;
  std::vector<float> values;  // [16, 256]
};

// Packs and decodes n_rows x n_cols, and compares with the truth: an error of float16's rounding of the scale, of the
// minimum and of the weight itself, so 2^-11 of each, is allowed.
template <QuantType type>
void round_trip(int n_rows, int n_cols) {
  SCOPED_TRACE(::testing::Message() << quant_name(type) << ' ' << n_rows << " x " << n_cols);
  const QuantTraits& traits = quant_traits(type);
  const int64_t row_bytes = quant_bytes(type, n_cols);
  const std::vector<std::byte> file = spate::testing::random_weights(type, n_rows, n_cols, 17);
  const Packed<type> packed(file, n_rows, n_cols);
  std::vector<float> truth(n_cols);
  for (int r = 0; r < kRows; ++r) {
    if (r < n_rows) traits.decode(file.data() + r * row_bytes, n_cols / traits.block_elems, truth.data());
    float largest =
        0;  // of the sub-block's neighbourhood: a minimum is rounded as a whole, however small the weight is
    for (int k = 0; k < n_cols && r < n_rows; ++k) largest = std::max(largest, std::abs(truth[k]));
    for (int k = 0; k < kTileCols; ++k) {
      const float expected = r < n_rows && k < n_cols ? truth[k] * packed.power[r] : 0;
      const float bound = 0x1p-9f * largest * packed.power[r];
      ASSERT_NEAR(packed.values[r * kTileCols + k], expected, bound) << "row " << r << ", column " << k;
    }
  }
}

template <QuantType type>
void all_shapes() {
  round_trip<type>(16, 256);
  round_trip<type>(11, 256);
  if (quant_traits(type).block_elems <= 32) {
    round_trip<type>(16, 96);
    round_trip<type>(1, 32);
  }
}

template <QuantType type>
constexpr bool kHasScales = type != QuantType::kF32&& type != QuantType::kF16&& type != QuantType::kBF16;

// To float16's eleven bits, with an exponent that has no end.
double round11(double value) {
  int exponent;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
}

template <class Tile>
struct PartsOf;
template <class C, class S>
struct PartsOf<PackedTile<C, S>> {
  using Codes = C;
  using Scales = S;
};

template <class Codes>
int code_value(uint8_t code) {
  if constexpr (std::is_same_v<Codes, LevelCodes>)
    return static_cast<int>(LevelCodes::kTable[code / 4] >> (code % 4 * 8) & 255) - 128;
  return code - Codes::kOffset;
}

// Scale, minimum and weight are rounded to float16 once each, and no more than that where they are not subnormal.
template <QuantType type>
void expect_one_rounding(const std::vector<std::byte>& file) {
  if constexpr (kHasScales<type>) {
    SCOPED_TRACE(quant_name(type));
    using Parts = PartsOf<typename TileFormat<type>::Packed>;
    using Block = Qblock<type>;
    const Packed<type> packed(file, kRows, kTileCols);
    int n_exact = 0;
    for (int r = 0; r < kRows; ++r) {
      const auto* blocks = reinterpret_cast<const Block*>(file.data() + r * quant_bytes(type, kTileCols));
      for (int k = 0; k < kTileCols; ++k) {
        constexpr int kSubblocks = Block::kElems / 32;
        const int s = k / 32, part = k % 32 / 16;
        uint8_t code[32];
        const CellScales of = TileFormat<type>::read(blocks[s / kSubblocks], s % kSubblocks, code);
        const double scale = round11(double{of.d} * of.scale[part]) * packed.power[r];
        const double addend = Parts::Scales::kAddend ? round11(-double{of.dmin} * of.minimum[part]) * packed.power[r]
                                                     : -Parts::Codes::kOffset * scale;
        const double expected =
            round11(scale * code_value<typename Parts::Codes>(code[k % 32]) + (Parts::Scales::kAddend ? addend : 0));
        const double actual = packed.values[r * kTileCols + k];
        const auto normal = [](double value) { return value == 0 || std::abs(value) >= 0x1p-14; };
        if (normal(expected) && normal(addend)) {
          ASSERT_EQ(actual, expected) << "row " << r << ", column " << k;
          ++n_exact;
        } else {
          ASSERT_NEAR(actual, expected, 0x1p-24 + 0x1p-10 * std::abs(expected)) << "row " << r << ", column " << k;
        }
      }
    }
    EXPECT_GT(n_exact, kRows * kTileCols / 2);
  }
}

TEST(TileFormat, EveryType_DecodesToItsQblocksValues) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) all_shapes<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

TEST(TileFormat, EveryType_WeightsAreRoundedOnce) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_one_rounding<QuantType::enumerator>(                              \
      spate::testing::random_weights(QuantType::enumerator, kRows, kTileCols, 19));
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

// Rows' f16 scales and minima become values of `size`, but for their signs.
template <QuantType type>
std::vector<std::byte> rows_of_size(const float (&size)[kRows], float minima) {
  std::vector<std::byte> file = spate::testing::random_weights(type, kRows, kTileCols, 23);
  auto* blocks = reinterpret_cast<Qblock<type>*>(file.data());
  constexpr int kBlocks = kTileCols / Qblock<type>::kElems;
  for (int i = 0; i < kRows * kBlocks; ++i) {
    blocks[i].d = f32_to_f16(size[i / kBlocks]);
    if constexpr (requires { blocks[i].dmin; }) blocks[i].dmin = f32_to_f16(minima * size[i / kBlocks]);
    if constexpr (requires { blocks[i].m; }) blocks[i].m = f32_to_f16(minima * size[i / kBlocks]);
  }
  return file;
}

// One row's scales 2^20 above another's, as far as float16 goes; and a row of zeros.
template <QuantType type>
void expect_rows_keep_their_bits() {
  if constexpr (kHasScales<type>) {
    SCOPED_TRACE(quant_name(type));
    float size[kRows];
    for (int r = 0; r < kRows; ++r) size[r] = std::ldexp(1.875f, -r - 4);
    size[3] = 0;
    const std::vector<std::byte> file = rows_of_size<type>(size, 3);
    const Packed<type> packed(file, kRows, kTileCols);
    EXPECT_TRUE(packed.has_row_factors);
    for (int r = 0; r < kRows; ++r) {
      if (r == 3) continue;
      EXPECT_EQ(packed.power[r] * size[r], packed.power[0] * size[0]) << "row " << r;
    }
    for (int k = 0; k < kTileCols; ++k) EXPECT_EQ(packed.values[3 * kTileCols + k], 0);
    expect_one_rounding<type>(file);
    // Where rows are of about a size, they have one power.
    for (int r = 0; r < kRows; ++r) size[r] = std::ldexp(1.0f, -4 - r % 7);
    EXPECT_FALSE(Packed<type>(rows_of_size<type>(size, 3), kRows, kTileCols).has_row_factors);
  }
}

TEST(TileFormat, RowsOfVeryDifferentSize_KeepTheirBits) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_rows_keep_their_bits<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

// Scales with all bits set, largest codes, minima far above the scales or far below.
template <QuantType type>
void expect_largest_is_finite() {
  if constexpr (kHasScales<type>) {
    for (const float minima : {0.0f, 1.0f, 30.0f, 1024.0f}) {
      for (const float value : {0x1p-24f, 0x1.ffcp-14f, 0x1.ffcp0f, 0x1.ffcp5f}) {
        SCOPED_TRACE(::testing::Message() << quant_name(type) << " of " << value << ", minima times " << minima);
        float size[kRows];
        std::fill(std::begin(size), std::end(size), value);
        std::vector<std::byte> file = rows_of_size<type>(size, minima);
        spate::testing::fill_codes(type, 0xff, file);
        for (const float weight : Packed<type>(file, kRows, kTileCols).values) ASSERT_TRUE(std::isfinite(weight));
        spate::testing::fill_codes(type, 0x80, file);
        for (const float weight : Packed<type>(file, kRows, kTileCols).values) ASSERT_TRUE(std::isfinite(weight));
      }
    }
  }
}

TEST(TileFormat, LargestWeights_AreFinite) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_largest_is_finite<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

// A scale that is no number is its own block's alone: the others' power does not depend on it.
template <QuantType type>
void expect_not_a_number_stays() {
  if constexpr (kHasScales<type>) {
    SCOPED_TRACE(quant_name(type));
    float size[kRows];
    std::fill(std::begin(size), std::end(size), 0.01f);
    std::vector<std::byte> file = rows_of_size<type>(size, 0);
    const Packed<type> before(file, kRows, kTileCols);
    auto* blocks = reinterpret_cast<Qblock<type>*>(file.data());
    constexpr int kBlocks = kTileCols / Qblock<type>::kElems;
    blocks[0].d = 0x7e00;        // not a number
    blocks[kBlocks].d = 0x7c00;  // infinity
    const Packed<type> after(file, kRows, kTileCols);
    for (int i = 0; i < kRows * kTileCols; ++i) {
      const int block = i / Qblock<type>::kElems;
      if (block == 0) {
        EXPECT_TRUE(std::isnan(after.values[i])) << i;
      } else if (block == kBlocks) {
        EXPECT_FALSE(std::isfinite(after.values[i])) << i;
      } else {
        EXPECT_EQ(after.values[i], before.values[i]) << i;
      }
    }
  }
}

TEST(TileFormat, ScalesThatAreNoNumbers_AreNotHidden) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_not_a_number_stays<QuantType::enumerator>();
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
