// The CPU's linear kernels against a plain double-precision product of the decoded weights and the kernel's own
// activations, for every instruction set that runs here and every weight type.
#include "backend/cpu/linear.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <string>
#include <tuple>

#include "backend/cpu/linear_kernels.h"
#include "backend/cpu/panel_pack.h"

#include "linear_isas.h"
#include "linear_test_data.h"

namespace spate::cpu {
namespace {

using testing::can_run;

constexpr int kEveryTokenCount[] = {1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 128, 512};

// y[n_tokens, y_stride] in the middle of poisoned memory, with poison between the rows too.
class Output {
 public:
  static constexpr int64_t kGuard = 64, kGap = 5;

  Output(int n_tokens, int64_t n_rows)
      : n_tokens_(n_tokens), n_rows_(n_rows), memory_(2 * kGuard + n_tokens * stride(), poison()) {}

  int64_t stride() const { return n_rows_ + kGap; }
  float* data() { return memory_.data() + kGuard; }
  float at(int token, int64_t row) const { return memory_[kGuard + token * stride() + row]; }
  const float* row(int token) const { return memory_.data() + kGuard + token * stride(); }

  void fill(float value) {
    for (int t = 0; t < n_tokens_; ++t)
      for (int64_t r = 0; r < n_rows_; ++r) data()[t * stride() + r] = value;
  }

  // Every float outside of y[0..n_tokens)[0..n_rows) still holds the poison.
  bool guards_intact() const {
    for (int64_t i = 0; i < static_cast<int64_t>(memory_.size()); ++i) {
      const int64_t in = i - kGuard;
      const bool inside = in >= 0 && in < n_tokens_ * stride() && in % stride() < n_rows_;
      if (!inside && std::bit_cast<uint32_t>(memory_[i]) != std::bit_cast<uint32_t>(poison())) return false;
    }
    return true;
  }

 private:
  static float poison() { return std::bit_cast<float>(0x7fc0dead); }

  int n_tokens_;
  int64_t n_rows_;
  std::vector<float> memory_;
};

struct Problem {
  Problem(QuantType weight_type, int64_t rows, int64_t cols, int tokens, uint32_t seed = 1)
      : type(weight_type),
        n_rows(rows),
        n_cols(cols),
        n_tokens(tokens),
        weights(random_weights(weight_type, rows, cols, seed)),
        x(random_activations(tokens, cols, seed + 1)) {}

  QuantType type;
  int64_t n_rows, n_cols;
  int n_tokens;
  std::vector<std::byte> weights;  // in the file's order
  std::vector<float> x;            // [n_tokens, n_cols]
};

using testing::LinearTier;

class Linear : public ::testing::TestWithParam<std::tuple<LinearTier, QuantType>> {
 protected:
  LinearTier tier() const { return std::get<0>(GetParam()); }
  Isa isa() const { return tier().isa; }
  QuantType type() const { return std::get<1>(GetParam()); }
  // The smallest number of columns the type allows, or about.
  int64_t cols_unit() const { return std::max(4, quant_traits(type()).block_elems); }

  PackedMatrix pack(const Problem& p) {
    return PackedMatrix::pack(p.type, p.weights.data(), p.n_rows, p.n_cols, pool_);
  }
  Activations activate(const float* x, int n_tokens, int64_t n_cols, bool need_int8) {
    buffer_ = std::make_unique<ActivationBuffer>(n_tokens, static_cast<int>(n_cols), tier().tile_min_tokens());
    return buffer_->fill(pool_, isa(), x, n_tokens, static_cast<int>(n_cols), need_int8);
  }
  Output run(const PackedMatrix& weight, const Activations& input) {
    Output y(input.n_tokens, weight.n_rows());
    const LinearJob job{.weight = &weight, .input = input, .y = y.data(), .y_stride = y.stride()};
    run_linear(pool_, isa(), {&job, 1});
    return y;
  }
  Output run(const Problem& p) {
    const PackedMatrix weight = pack(p);
    return run(weight, activate(p.x.data(), p.n_tokens, p.n_cols, weight.takes_int8()));
  }

  // |y - reference| / sum |w x| at most: weights are rounded to bfloat16 for tiles.
  double bound(const Activations& input) const {
    return input.tiles.tiles != nullptr && type() != QuantType::kF32 ? 0x1p-8 : 1e-4;
  }
  void expect_matches_reference(const Problem& p) {
    SCOPED_TRACE(fmt::format("{} x {}, T = {}", p.n_rows, p.n_cols, p.n_tokens));
    const PackedMatrix weight = pack(p);
    const Activations input = activate(p.x.data(), p.n_tokens, p.n_cols, weight.takes_int8());
    const Output y = run(weight, input);
    EXPECT_TRUE(y.guards_intact());
    const std::vector<double> x = exact_activations(input, p.type);
    const std::vector<float> w = decode_weights(p.type, p.weights, p.n_rows, p.n_cols);
    double worst = -1;
    std::string report;
    for (int t = 0; t < p.n_tokens; ++t)
      for (int64_t r = 0; r < p.n_rows; ++r) {
        const ExactDot exact = exact_dot(&w[r * p.n_cols], &x[t * p.n_cols], p.n_cols);
        const double error = std::abs(y.at(t, r) - exact.sum) / (exact.sum_abs + 1e-30);
        if (error <= worst) continue;  // false for NaN
        worst = error;
        report = fmt::format("token {} row {}: {} instead of {}, sum |w x| = {}", t, r, y.at(t, r), exact.sum,
                             exact.sum_abs);
        if (std::isnan(error)) break;
      }
    EXPECT_LE(worst, bound(input)) << report;
  }

  ThreadPool pool_{2};
  std::unique_ptr<ActivationBuffer> buffer_;
};

TEST_P(Linear, EveryTokenCount_MatchesReference) {
  for (int n_tokens : kEveryTokenCount) expect_matches_reference(Problem(type(), 40, 256, n_tokens));
}

TEST_P(Linear, ShapesOffEveryTile_MatchReference) {
  for (int64_t n_rows : {1, 15, 16, 17, 257})
    for (int64_t n_cols : {cols_unit(), 3 * cols_unit(), int64_t{1792}})
      for (int n_tokens : {1, 5, 18}) expect_matches_reference(Problem(type(), n_rows, n_cols, n_tokens));
}

class LinearFloat : public Linear {};  // types whose qblock is one element

TEST_P(LinearFloat, ColumnsThatAreNoMultipleOfFour_MatchReference) {
  for (int64_t n_cols : {1, 2, 3, 5, 31, 33, 97})
    for (int n_tokens : {1, 2, 7}) expect_matches_reference(Problem(type(), 17, n_cols, n_tokens));
}

TEST_P(Linear, LargestCodesAgainstLargestActivations_DoNotSaturate) {
  for (int pattern : {0x00, 0x80, 0x7f, 0xff, 0x88, 0x55}) {
    Problem p(type(), 17, 2 * cols_unit(), 18);
    fill_codes(p.type, pattern, p.weights);
    for (size_t i = 0; i < p.x.size(); ++i) p.x[i] = i % 7 < 4 || pattern == 0xff ? 1.5f : -1.5f;
    expect_matches_reference(p);
  }
}

TEST_P(Linear, RowOfABatch_EqualsTheRowAlone) {
  const Problem p(type(), 40, 3 * cols_unit(), kTokenBlock + 35);
  const PackedMatrix weight = pack(p);
  std::vector<float> alone(p.n_tokens * p.n_rows);
  for (int t = 0; t < p.n_tokens; ++t) {
    const Output y = run(weight, activate(&p.x[t * p.n_cols], 1, p.n_cols, weight.takes_int8()));
    std::memcpy(&alone[t * p.n_rows], y.row(0), p.n_rows * sizeof(float));
  }
  for (int first : {0, 1, 5})
    for (int n_tokens : {2, 3, 4, 7, 8, 9, 16, 17, 33, 128, kTokenBlock + 30}) {
      const Output y = run(weight, activate(&p.x[first * p.n_cols], n_tokens, p.n_cols, weight.takes_int8()));
      for (int t = 0; t < n_tokens; ++t)
        ASSERT_EQ(std::memcmp(y.row(t), &alone[(first + t) * p.n_rows], p.n_rows * sizeof(float)), 0)
            << "token " << t << " of " << n_tokens << " from " << first;
    }
}

TEST_P(Linear, BiasAndAccumulate_AddInOrder) {
  for (int n_tokens : {1, 18})
    for (int64_t n_rows : {16, 21}) {
      const Problem p(type(), n_rows, 2 * cols_unit(), n_tokens);
      const std::vector<float> bias = random_activations(1, n_rows, 9);
      const PackedMatrix weight = pack(p);
      const Activations input = activate(p.x.data(), n_tokens, p.n_cols, weight.takes_int8());
      const Output plain = run(weight, input);
      Output y(n_tokens, n_rows);
      y.fill(0.75f);
      const LinearJob job{.weight = &weight,
                          .input = input,
                          .bias = bias.data(),
                          .y = y.data(),
                          .y_stride = y.stride(),
                          .accumulate = true};
      run_linear(pool_, isa(), {&job, 1});
      EXPECT_TRUE(y.guards_intact());
      for (int t = 0; t < n_tokens; ++t)
        for (int64_t r = 0; r < n_rows; ++r) {
          const float with_bias = plain.at(t, r) + bias[r];
          ASSERT_EQ(y.at(t, r), 0.75f + with_bias) << "token " << t << " row " << r;
        }
    }
}

TEST_P(Linear, BorrowedWeights_GiveTheBitsOfPackedOnes) {
  const Problem p(type(), 40, 3 * cols_unit(), kTokenBlock + 3);
  const PackedMatrix packed = pack(p);
  const PackedMatrix borrowed = PackedMatrix::borrow(p.type, p.weights.data(), p.n_rows, p.n_cols);
  EXPECT_EQ(borrowed.memory_bytes(), 0);
  EXPECT_EQ(borrowed.panel(0), nullptr);
  for (int n_tokens : {1, 7, p.n_tokens}) {
    const Activations input = activate(p.x.data(), n_tokens, p.n_cols, packed.takes_int8());
    const Output expected = run(packed, input), y = run(borrowed, input);
    EXPECT_TRUE(y.guards_intact());
    for (int t = 0; t < n_tokens; ++t)
      ASSERT_EQ(std::memcmp(y.row(t), expected.row(t), p.n_rows * sizeof(float)), 0) << "token " << t;
  }
}

TEST_P(Linear, NothingToDo_WritesNothing) {
  const Problem p(type(), 5, cols_unit(), 1);
  const PackedMatrix weight = pack(p);
  Output y(1, 5);
  Activations input = activate(p.x.data(), 1, p.n_cols, weight.takes_int8());
  input.n_tokens = 0;
  const LinearJob job{.weight = &weight, .input = input, .y = y.data(), .y_stride = y.stride()};
  run_linear(pool_, isa(), {&job, 1});
  run_linear(pool_, isa(), {});
  y.fill(std::bit_cast<float>(0x7fc0dead));  // no change if it was untouched
  EXPECT_TRUE(y.guards_intact());
}

std::string param_name(const ::testing::TestParamInfo<std::tuple<LinearTier, QuantType>>& tested) {
  return fmt::format("{}_{}", std::get<0>(tested.param).name(), quant_name(std::get<1>(tested.param)));
}

INSTANTIATE_TEST_SUITE_P(All, Linear,
                         ::testing::Combine(::testing::ValuesIn(testing::runnable_tiers()),
                                            ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end())),
                         param_name);

INSTANTIATE_TEST_SUITE_P(All, LinearFloat,
                         ::testing::Combine(::testing::ValuesIn(testing::runnable_tiers()),
                                            ::testing::Values(QuantType::kF32, QuantType::kF16, QuantType::kBF16)),
                         param_name);

class LinearAcrossIsas : public ::testing::TestWithParam<QuantType> {};

TEST_P(LinearAcrossIsas, Avx2Avx512Amx_SameBits) {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (can_run(isa)) isas.push_back(isa);
  if (isas.size() < 2) return;  // isas_test.cc says which are missing here
  ThreadPool pool(2);
  for (int n_tokens : {1, 2, 6, 8, 13, 16, 17, 33, 150}) {
    const Problem p(GetParam(), 33, 512, n_tokens);
    const PackedMatrix weight = PackedMatrix::pack(p.type, p.weights.data(), p.n_rows, p.n_cols, pool);
    ActivationBuffer buffer(n_tokens, 512, kNoTiles);
    std::vector<float> expected;
    for (Isa isa : isas) {
      std::vector<float> y(n_tokens * p.n_rows, -1.0f);
      const LinearJob job{.weight = &weight,
                          .input = buffer.fill(pool, isa, p.x.data(), n_tokens, 512, weight.takes_int8()),
                          .y = y.data(),
                          .y_stride = p.n_rows};
      run_linear(pool, isa, {&job, 1});
      if (expected.empty()) expected = y;
      for (size_t i = 0; i < y.size(); ++i)
        ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected[i]))
            << isa_name(isa) << " T = " << n_tokens << " element " << i << ": " << y[i] << " and " << expected[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearAcrossIsas,
                         ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end()),
                         [](const auto& tested) { return std::string(quant_name(tested.param)); });

class LinearJobs : public ::testing::TestWithParam<LinearTier> {};

TEST_P(LinearJobs, SeveralAtOnce_EqualEachAlone) {
  const Isa isa = GetParam().isa;
  ThreadPool packing(1);
  std::vector<Problem> problems;
  for (QuantType type : all_quant_types()) {
    problems.emplace_back(type, 7 + 41 * static_cast<int64_t>(problems.size() % 4), 256, 3);
    problems.back().x = problems.front().x;
  }
  std::vector<PackedMatrix> weights;
  for (const Problem& p : problems)
    weights.push_back(PackedMatrix::pack(p.type, p.weights.data(), p.n_rows, p.n_cols, packing));
  ActivationBuffer buffer(3, 256, GetParam().tile_min_tokens());
  const Activations input = buffer.fill(packing, isa, problems[0].x.data(), 3, 256, true);

  std::vector<Output> alone, together;
  for (const Problem& p : problems) {
    alone.emplace_back(3, p.n_rows);
    together.emplace_back(3, p.n_rows);
  }
  const auto job = [&](size_t i, Output& y) {
    return LinearJob{.weight = &weights[i], .input = input, .y = y.data(), .y_stride = y.stride()};
  };
  for (size_t i = 0; i < problems.size(); ++i) {
    const LinearJob one = job(i, alone[i]);
    run_linear(packing, isa, {&one, 1});
  }
  for (int n_threads : {1, 2, 3, 7}) {
    ThreadPool pool(n_threads);
    std::vector<LinearJob> jobs;
    for (size_t i = 0; i < problems.size(); ++i) {
      together[i].fill(-5.0f);
      jobs.push_back(job(i, together[i]));
    }
    run_linear(pool, isa, jobs);
    for (size_t i = 0; i < problems.size(); ++i) {
      EXPECT_TRUE(together[i].guards_intact());
      for (int t = 0; t < 3; ++t)
        ASSERT_EQ(std::memcmp(together[i].row(t), alone[i].row(t), problems[i].n_rows * sizeof(float)), 0)
            << quant_name(problems[i].type) << ", " << n_threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, LinearJobs, ::testing::ValuesIn(testing::runnable_tiers()),
                         [](const auto& tested) { return tested.param.name(); });

}  // namespace
}  // namespace spate::cpu
