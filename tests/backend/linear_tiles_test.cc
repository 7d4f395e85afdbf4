// What is particular to products by tiles; their results as such are tested with everybody else's in linear_test.cc.
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <tuple>
#include <utility>

#include "backend/cpu/linear.h"
#include "backend/cpu/ops.h"

#include "linear_isas.h"
#include "linear_test_data.h"

namespace spate::cpu {
namespace {

using testing::can_run;

TEST(LinearTiles, Activations_AreRoundedToNearestInTiles) {
  if (!testing::can_run(Isa::kAmx)) return;  // isas_test.cc says so
  ThreadPool pool(2);
  for (const auto& [n_tokens, n_cols] : {std::pair{1, 32}, {33, 288}, {40, 512}}) {
    const std::vector<float> x = random_activations(n_tokens, n_cols, 5);
    ActivationBuffer buffer(n_tokens, n_cols, n_tokens);
    const Activations a = buffer.fill(pool, Isa::kAmx, x.data(), n_tokens, n_cols, true);
    EXPECT_EQ(a.x, x.data());
    EXPECT_EQ(a.blocks, nullptr);
    ASSERT_EQ(a.tiles.n_token_tiles, (n_tokens + 15) / 16);
    const std::vector<double> values = exact_activations(a, QuantType::kQ8_0);
    for (size_t i = 0; i < x.size(); ++i) {
      const auto bits = std::bit_cast<uint32_t>(x[i]);
      const uint32_t half = 0x7fff + (bits >> 16 & 1);  // ties to even
      ASSERT_EQ(values[i], std::bit_cast<float>((bits + half) & 0xffff0000)) << "element " << i;
    }
    EXPECT_EQ(buffer.fill(pool, Isa::kAmx, x.data(), n_tokens - 1, n_cols, true).tiles.tiles, nullptr);
    EXPECT_EQ(buffer.fill(pool, Isa::kAvx512, x.data(), n_tokens, n_cols, true).tiles.tiles, nullptr);
  }
}

// Weights and activations that bfloat16 holds, and sums that float32 holds: any column, row or token out of place
// shows.
TEST(LinearTiles, SmallIntegers_AreMultipliedExactly) {
  if (!can_run(Isa::kAmx)) return;  // isas_test.cc says so
  ThreadPool pool(2);
  for (const auto& [n_rows, n_cols, n_tokens] :
       {std::tuple{300, 288, 65}, {16, 32, 1}, {33, 544, 530}, {544, 256, 48}}) {
    std::vector<std::byte> weights(quant_bytes(QuantType::kQ8_0, int64_t{n_rows} * n_cols));
    std::vector<float> x(int64_t{n_tokens} * n_cols);
    const auto weight_at = [](int row, int col) { return (row * 7 + col * 13) % 255 - 127; };
    for (int i = 0; i < n_rows * n_cols; ++i) {
      std::byte* block = &weights[i / 32 * 34];
      block[0] = std::byte{0x00}, block[1] = std::byte{0x3c};  // scale 1
      block[2 + i % 32] = static_cast<std::byte>(weight_at(i / n_cols, i % n_cols));
    }
    for (int i = 0; i < n_tokens * n_cols; ++i) x[i] = static_cast<float>(i * 5 % 17 - 8);
    const PackedMatrix weight = PackedMatrix::pack(QuantType::kQ8_0, weights.data(), n_rows, n_cols, pool);
    ActivationBuffer buffer(n_tokens, n_cols, 1);
    std::vector<float> y(int64_t{n_tokens} * n_rows);
    const LinearJob job{.weight = &weight,
                        .input = buffer.fill(pool, Isa::kAmx, x.data(), n_tokens, n_cols, true),
                        .y = y.data(),
                        .y_stride = n_rows};
    ASSERT_NE(job.input.tiles.tiles, nullptr);
    run_linear(pool, Isa::kAmx, {&job, 1});
    for (int t = 0; t < n_tokens; ++t)
      for (int r = 0; r < n_rows; ++r) {
        int sum = 0;
        for (int c = 0; c < n_cols; ++c) sum += weight_at(r, c) * static_cast<int>(x[t * n_cols + c]);
        ASSERT_EQ(y[t * n_rows + r], static_cast<float>(sum)) << "token " << t << " row " << r;
      }
  }
}

// Two products, gated row by row, and the result as activations: the same values, one after the other or in one go.
TEST(LinearTiles, Gated_EqualsBothProductsGatedAndPacked) {
  if (!can_run(Isa::kAmx)) return;  // isas_test.cc says so
  for (const auto& [d_ff, n_cols, n_tokens, n_threads] :
       {std::tuple{32, 256, 1, 1}, {352, 256, 33, 2}, {2080, 256, 17, 3}, {2304, 256, 17, 2}, {544, 512, 530, 2}}) {
    ThreadPool pool(n_threads);
    const auto random = [&](QuantType type, uint32_t seed, bool pack) {
      static std::vector<std::vector<std::byte>> kept;
      kept.push_back(random_weights(type, d_ff, n_cols, seed));
      return pack ? PackedMatrix::pack(type, kept.back().data(), d_ff, n_cols, pool)
                  : PackedMatrix::borrow(type, kept.back().data(), d_ff, n_cols);
    };
    const PackedMatrix gate = random(QuantType::kQ4_K, 1, true), up = random(QuantType::kQ6_K, 2, n_tokens < 33);
    const std::vector<float> x = random_activations(n_tokens, n_cols, 3);
    ActivationBuffer in(n_tokens, n_cols, 1), out(n_tokens, d_ff, 1), expected_out(n_tokens, d_ff, 1);
    const Activations input = in.fill(pool, Isa::kAmx, x.data(), n_tokens, n_cols, true);

    std::vector<float> gates(int64_t{n_tokens} * d_ff), ups(gates.size());
    const LinearJob jobs[] = {{.weight = &gate, .input = input, .y = gates.data(), .y_stride = d_ff},
                              {.weight = &up, .input = input, .y = ups.data(), .y_stride = d_ff}};
    run_linear(pool, Isa::kAmx, jobs);
    const auto gate_multiply = op_table(Isa::kAvx2).silu_multiply;
    gate_multiply(gates.data(), ups.data(), static_cast<int>(gates.size()));
    const Activations expected = expected_out.fill(pool, Isa::kAmx, gates.data(), n_tokens, d_ff, true);

    const GatedJob job{.gate = &gate, .up = &up, .input = input, .gate_multiply = gate_multiply};
    ASSERT_TRUE(takes_gated_tiles(Isa::kAmx, job));
    const Activations actual = run_gated(pool, Isa::kAmx, job, out);
    EXPECT_EQ(actual.n_tokens, n_tokens);
    EXPECT_EQ(actual.n_cols, d_ff);
    EXPECT_EQ(exact_activations(actual, QuantType::kQ8_0), exact_activations(expected, QuantType::kQ8_0));
  }
}

TEST(LinearTiles, Gated_OnlyWhereTilesAreUsed) {
  if (!can_run(Isa::kAmx)) return;  // isas_test.cc says so
  ThreadPool pool(1);
  const auto matrix = [&](QuantType type, int n_rows) {
    static std::vector<std::vector<std::byte>> kept;
    kept.push_back(random_weights(type, n_rows, 32, 1));
    return PackedMatrix::pack(type, kept.back().data(), n_rows, 32, pool);
  };
  const PackedMatrix q8 = matrix(QuantType::kQ8_0, 64), f32 = matrix(QuantType::kF32, 64);
  const PackedMatrix odd = matrix(QuantType::kQ8_0, 48);
  const std::vector<float> x = random_activations(40, 32, 3);
  ActivationBuffer tiles(40, 32, 40), blocks(40, 32, kNoTiles);
  const Activations by_tiles = tiles.fill(pool, Isa::kAmx, x.data(), 40, 32, true);
  const Activations by_blocks = blocks.fill(pool, Isa::kAmx, x.data(), 40, 32, true);
  EXPECT_TRUE(takes_gated_tiles(Isa::kAmx, {.gate = &q8, .up = &q8, .input = by_tiles}));
  EXPECT_FALSE(takes_gated_tiles(Isa::kAmx, {.gate = &q8, .up = &q8, .input = by_blocks}));
  EXPECT_FALSE(takes_gated_tiles(Isa::kAmx, {.gate = &f32, .up = &q8, .input = by_tiles}));
  EXPECT_FALSE(takes_gated_tiles(Isa::kAmx, {.gate = &q8, .up = &f32, .input = by_tiles}));
  EXPECT_FALSE(takes_gated_tiles(Isa::kAmx, {.gate = &odd, .up = &odd, .input = by_tiles}));
}

}  // namespace
}  // namespace spate::cpu
