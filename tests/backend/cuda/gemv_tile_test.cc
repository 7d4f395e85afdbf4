// What lanes do with a weight tile for products with int8 activations, on the host: its codes as integers against those
// of the file's qblocks, and whole products with quantised activations in float64.
#include "backend/cuda/gemv_tile.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "quant/quant_type.h"

#include "int8_reference.h"
#include "support/random_weights.h"

namespace spate::cuda {
namespace {

using testing::Int8Row;
using testing::quantise_row;

template <QuantType type>
constexpr bool kHasGemv = type != QuantType::kF32&& type != QuantType::kF16&& type != QuantType::kBF16;

// A tile of a random matrix of 16 rows, and the matrix as it is.
template <QuantType type>
struct RandomTile {
  using Tile = GemvTile<typename TileFormat<type>::Packed>;
  static constexpr int64_t kRowBytes = int64_t{kTileCols} / Qblock<type>::kElems * int64_t{sizeof(Qblock<type>)};
  static constexpr float kPower = 0x1p-8f;  // what products come out times: scales are then stored well inside float16

  RandomTile()
      : file(spate::testing::random_weights(type, kTileRows, kTileCols, 23)),
        values(size_t(kTileRows) * kTileCols),
        tile(Tile::kBytes) {
    const float power[2] = {kPower, kPower};
    quant_traits(type).decode(file.data(), int64_t{kTileRows} * kTileCols / Qblock<type>::kElems, values.data());
    for (int lane = 0; lane < 32; ++lane) {
      const std::byte* const row[2] = {file.data() + lane / 4 * kRowBytes, file.data() + (lane / 4 + 8) * kRowBytes};
      pack_lane<type>(row, kTileCols, power, lane, tile.data());
    }
  }

  typename Tile::Regs regs(int lane) const {
    typename Tile::Regs r;
    const LaneCursor cursor = LaneCursor::at(tile.data(), lane);
    Tile::template load_half<0>(cursor, r);
    Tile::template load_half<1>(cursor, r);
    return r;
  }
  // Codes of row r's sub-block s, as the file has them.
  void codes(int r, int s, uint8_t (&code)[32]) const {
    const auto* blocks = reinterpret_cast<const Qblock<type>*>(file.data() + r * kRowBytes);
    constexpr int kSubblocks = Qblock<type>::kElems / 32;
    TileFormat<type>::read(blocks[s / kSubblocks], s % kSubblocks, code);
  }

  std::vector<std::byte> file;
  std::vector<float> values;
  std::vector<std::byte> tile;
};

// Calls f.operator()<h, rh>() for the four cells.
template <typename F>
void for_each_cell(F&& f) {
  f.template operator()<0, 0>();
  f.template operator()<0, 1>();
  f.template operator()<1, 0>();
  f.template operator()<1, 1>();
}

template <QuantType type>
void expect_codes_of_the_file() {
  if constexpr (kHasGemv<type>) {
    SCOPED_TRACE(quant_name(type));
    using Bytes = typename RandomTile<type>::Tile::Bytes;
    const RandomTile<type> random;
    for (int lane = 0; lane < 32; ++lane) {
      const auto regs = random.regs(lane);
      for_each_cell([&]<int h, int rh>() {
        uint32_t word[Bytes::kWords];
        Bytes::template words<h, rh>(regs.codes, word);
        uint8_t code[32];
        random.codes(lane / 4 + 8 * rh, 4 * h + lane % 4, code);
        for (int v = 0; v < kSubblockWords; ++v) {
          for (int i = 0; i < 4; ++i) {
            const int column = column_of_byte(Bytes::kOrder, v, i);
            int actual = 0;
            for (int w = v; w < Bytes::kWords; w += kSubblockWords) {
              const uint32_t byte = word[w] >> (8 * i) & 255;
              actual += Bytes::kSigned ? static_cast<int8_t>(byte) : static_cast<int>(byte);
            }
            // Of the IQ4 types a code is the number of its level.
            const int expected =
                std::is_same_v<Bytes, ByteCodesOf<LevelCodes>>
                    ? static_cast<int>(LevelCodes::kTable[code[column] / 4] >> (code[column] % 4 * 8) & 255) - 128
                    : code[column];
            ASSERT_EQ(actual, expected * (v % 2 == 1 ? Bytes::kOddUnit : 1))
                << "lane " << lane << ", cell " << h << ", " << rh << ", column " << column;
          }
        }
      });
    }
  }
}

TEST(GemvTile, EveryType_BytesAreTheFilesCodes) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_codes_of_the_file<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
}

// A lane's activations of half h of the tile's columns, from its row's integers.
template <class Tile>
LaneActivations lane_activations(const Int8Row& x, int lane, int h) {
  const int subblock = 4 * h + lane % 4;
  const int8_t* from = &x.integers[size_t(subblock) * 32];
  LaneActivations to{};
  int sums[2] = {0, 0};
  for (int v = 0; v < kSubblockWords; ++v) {
    for (int i = 0; i < 4; ++i) {
      const int8_t value = from[column_of_byte(Tile::kOrder, v, i)];
      to.word[v / 4].w[v % 4] |= static_cast<uint32_t>(static_cast<uint8_t>(value)) << (8 * i);
      sums[v / 4] += value;
    }
  }
  to.factors = Tile::subblock_factors(x.scales[subblock], sums[0], sums[1]);
  return to;
}

// All lanes' products of the tile with two tokens, against float64 sums of the file's values.
template <QuantType type>
void expect_products(float amplitude) {
  if constexpr (kHasGemv<type>) {
    SCOPED_TRACE(quant_name(type));
    using Tile = typename RandomTile<type>::Tile;
    const RandomTile<type> random;
    std::mt19937 generator(29);
    std::normal_distribution<float> normal(0.3f, 1.0f);  // sums that are far from 0 show offsets that are wrong
    std::vector<float> x[2];
    Int8Row row[2];
    for (int token = 0; token < 2; ++token) {
      for (int k = 0; k < kTileCols; ++k) x[token].push_back(f16_to_f32(f32_to_f16(amplitude * normal(generator))));
      row[token] = quantise_row(x[token]);
    }
    std::vector<float> sums(size_t(2) * kTileRows, 0.0f);
    for (int lane = 0; lane < 32; ++lane) {
      const auto regs = random.regs(lane);
      for_each_cell([&]<int h, int rh>() {
        const LaneActivations both[2] = {lane_activations<Tile>(row[0], lane, h),
                                         lane_activations<Tile>(row[1], lane, h)};
        float sum[2] = {0, 0};
        Tile::template add_cell<h, rh>(regs, both, sum);
        for (int token = 0; token < 2; ++token) sums[size_t(token) * kTileRows + lane / 4 + 8 * rh] += sum[token];
      });
    }
    for (int token = 0; token < 2; ++token) {
      for (int r = 0; r < kTileRows; ++r) {
        double expected = 0, magnitude = 0;
        for (int k = 0; k < kTileCols; ++k) {
          const double product = double{random.values[size_t(r) * kTileCols + k]} * row[token].value(k);
          expected += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(sums[size_t(token) * kTileRows + r] / RandomTile<type>::kPower, expected, 2e-6 * magnitude)
            << "token " << token << ", row " << r;
      }
    }
  }
}

TEST(GemvTile, EveryType_ProductsAreTheSums) {
  for (const float amplitude : {1.0f, 0x1p-16f, 1000.0f}) {
    SCOPED_TRACE(amplitude);
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  expect_products<QuantType::enumerator>(amplitude);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
}

TEST(Int8Activations, EveryOrder_HasEachColumnOnce) {
  for (const ByteOrder order : {ByteOrder::kInFours, ByteOrder::kFourApart, ByteOrder::kEightApart}) {
    std::vector<int> seen(32, 0);
    for (int v = 0; v < kSubblockWords; ++v) {
      for (int i = 0; i < 4; ++i) {
        const int column = column_of_byte(order, v, i);
        ASSERT_TRUE(column >= 0 && column < 32);
        EXPECT_EQ(column / 16, v / 4) << "the first four words are the first sixteen columns";
        ++seen[column];
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 32);
  }
}

template <ByteOrder order>
void expect_words_in_order() {
  for (int v = 0; v < kSubblockWords; ++v) {
    uint32_t bits[2][2];
    for (int pair = 0; pair < 2; ++pair)
      for (int i = 0; i < 2; ++i)
        bits[pair][i] = int8_bits(static_cast<float>(2 * pair_of_word(order, v, pair) + i - 16), 1.0f);
    const uint32_t word = word_of<order>(bits[0], bits[1]);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(static_cast<int8_t>(word >> (8 * i)), column_of_byte(order, v, i) - 16)
          << "word " << v << ", byte " << i;
  }
}

TEST(Int8Activations, Words_HaveTheirColumnsInOrder) {
  expect_words_in_order<ByteOrder::kInFours>();
  expect_words_in_order<ByteOrder::kFourApart>();
  expect_words_in_order<ByteOrder::kEightApart>();
}

// A kernel reads pairs of columns where a producer has written them.
TEST(Int8Activations, PairsOfWords_AreTheActivationsOfTheirColumns) {
  for (const ByteOrder order : {ByteOrder::kInFours, ByteOrder::kFourApart, ByteOrder::kEightApart})
    for (int subblock = 0; subblock < kTileSubblocks; ++subblock)
      for (int v = 0; v < kSubblockWords; ++v)
        for (int pair = 0; pair < 2; ++pair) {
          const int n = pair_of_word(order, v, pair);
          EXPECT_EQ(subblock / 4 * 128 + 8 * n + subblock % 4 * 2, k_position(32 * subblock + 2 * n));
        }
}

TEST(Int8Activations, Integers_AreWithinHalfAScale) {
  std::mt19937 random(31);
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> x(32);
    for (float& value : x) {
      value = f16_to_f32(static_cast<uint16_t>(random() % 2 * 0x8000 + random() % 0x7c00));
    }
    const Int8Row row = quantise_row(x);
    const float largest =
        std::abs(*std::max_element(x.begin(), x.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    ASSERT_NEAR(row.scales[0], largest / 127, 1e-6f * largest);
    for (int k = 0; k < 32; ++k) ASSERT_NEAR(row.value(k), x[k], 0.50001 * row.scales[0]) << "column " << k;
  }
}

TEST(Int8Activations, ZerosAndNotNumbers_StayWhatTheyAre) {
  EXPECT_EQ(quantise_row(std::vector<float>(32, 0.0f)).value(5), 0);
  std::vector<float> x(32, 1.0f);
  x[7] = NAN;
  EXPECT_TRUE(std::isnan(quantise_row(x).scales[0]));
  x[7] = INFINITY;
  EXPECT_TRUE(std::isinf(quantise_row(x).scales[0]));
}

}  // namespace
}  // namespace spate::cuda
