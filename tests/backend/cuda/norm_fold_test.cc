// RMSNorm folded into the products around it: what a product that adds to the residual leaves for the next norm, what a
// product makes up for, and both together against the norm in double precision.
#include "backend/cuda/norm_fold.h"

#include <limits>

#include "backend/cuda/cluster_room.h"

#include "matmul_fixture.h"

namespace spate::cuda::testing {
namespace {

TEST(FoldScale, IsThePowerOfTwoBelowASixteenth) {
  for (const float r : {1e-15f, 3e-7f, 0.03f, 0.999f, 1.0f, 1.001f, 7.5f, 316.0f, 1e6f, 1e15f}) {
    const float scale = fold_scale(r);
    int exponent;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5f) << r;
    EXPECT_LE(scale * 16, r);
    EXPECT_GT(scale * 32, r);
  }
}

TEST(FoldScale, OfAnyNumber_HasAnInverse) {
  const float kInfinity = std::numeric_limits<float>::infinity();
  for (const float r : {0.0f, 1e-45f, 1e-38f, 3e38f, kInfinity, NAN}) {
    EXPECT_GE(fold_scale(r), 0x1p-64f) << r;
    EXPECT_LE(fold_scale(r), 0x1p56f) << r;
  }
}

TEST(SquaresStride, HoldsASumOfEachPanel) {
  for (const int n : {1, 16, 17, 511, 512, 513, 4096, 18944}) {
    EXPECT_GE(squares_stride(n) * kTileRows, n);
    EXPECT_EQ(squares_stride(n) % 32, 0);
  }
  EXPECT_EQ(squares_stride(4096), 256);
}

constexpr float kEpsilon = 1e-5f;
constexpr int kTokenCounts[] = {1, 2, 7, 8, 9, 33, 64, 128, 255};

// The residual's rows of a step, and the memory of the norm after them.
class Residual {
 public:
  // Rows of about unit size times `magnitude`. ratio: how much larger the factor of the norm before was than that of
  // the rows as they are now.
  Residual(int n_tokens, int d_model, float magnitude, float ratio, uint32_t seed)
      : n_tokens_(n_tokens),
        d_model_(d_model),
        before_(size_t(n_tokens) * d_model),
        weight_(d_model),
        scale_(n_tokens),
        squares_(size_t(n_tokens + 1) * squares_stride(d_model), 0.0f) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& x : before_) x = magnitude * normal(random);
    for (float& g : weight_) g = 0.5f + 0.3f * normal(random);
    for (int t = 0; t < n_tokens; ++t)
      scale_[t] =
          fold_scale(ratio * (1 + 0.5f * static_cast<float>(t % 4)) / std::sqrt(magnitude * magnitude + kEpsilon));
    for (size_t i = 0; i < squares_.size(); ++i)
      if (static_cast<int>(i % squares_stride(d_model)) < n_panels()) squares_[i] = NAN;
    y_ = std::make_unique<DeviceVector<float>>(before_);
    x_ = std::make_unique<DeviceVector<uint16_t>>(size_t(n_tokens + 1) * padded_cols(d_model));
    x_->fill(0xff);
    weight_there_ = std::make_unique<DeviceVector<float>>(weight_);
    scale_there_ = std::make_unique<DeviceVector<float>>(scale_);
    next_scale_ = std::make_unique<DeviceVector<float>>(n_tokens);
    next_scale_->fill(0xff);
    squares_there_ = std::make_unique<DeviceVector<float>>(squares_);
  }

  float* y() const { return y_->get(); }
  const __half* x() const { return reinterpret_cast<const __half*>(x_->get()); }
  NextNorm next() const {
    return {.x = reinterpret_cast<__half*>(x_->get()),
            .weight = weight_there_->get(),
            .scale = scale_there_->get(),
            .squares = squares_there_->get()};
  }
  FoldedNorm folded() const {
    return {.squares = squares_there_->get(),
            .scale = scale_there_->get(),
            .next_scale = next_scale_->get(),
            .epsilon = kEpsilon};
  }
  // Activations past the last column are zero where products read them.
  void zero_padding() {
    std::vector<uint16_t> x = x_->download();
    std::vector<bool> is_column(padded_cols(d_model_), false);
    for (int k = 0; k < d_model_; ++k) is_column[k_position(k)] = true;
    for (size_t i = 0; i < x.size(); ++i)
      if (!is_column[i % padded_cols(d_model_)]) x[i] = 0;
    x_->upload(x);
  }

  void fetch() {
    after_ = y_->download();
    x_here_ = x_->download();
    squares_here_ = squares_there_->download();
    int8_rows_.clear();
    if (d_model_ % kSubblockCols != 0) return;
    for (int t = 0; t < n_tokens_; ++t) {
      std::vector<float> row(d_model_);
      for (int k = 0; k < d_model_; ++k) row[k] = f16_to_f32(x(t, k));
      int8_rows_.push_back(quantise_row(row));
    }
  }
  const Int8Row& int8_row(int t) const { return int8_rows_[t]; }  // of x
  float before(int t, int k) const { return before_[size_t(t) * d_model_ + k]; }
  float after(int t, int k) const { return after_[size_t(t) * d_model_ + k]; }
  float weight(int k) const { return weight_[k]; }
  float scale(int t) const { return scale_[t]; }
  uint16_t x(int t, int k) const { return x_here_[size_t(t) * padded_cols(d_model_) + k_position(k)]; }
  // The norm's factor, of the rows as they are after the product.
  double factor(int t) const {
    double squares = 0;
    for (int k = 0; k < d_model_; ++k) squares += std::pow(double{after(t, k)}, 2);
    return 1 / std::sqrt(squares / d_model_ + kEpsilon);
  }

  // Activations and squares are those of the residual as it is, to the bit and nearly so; nothing else was written.
  void check_next() const {
    std::vector<bool> written(x_here_.size(), false);
    for (int t = 0; t < n_tokens_; ++t) {
      std::vector<double> squares(squares_stride(d_model_), 0.0);
      for (int k = 0; k < d_model_; ++k) {
        const float x = after(t, k) * weight_[k] * scale_[t];
        ASSERT_EQ(this->x(t, k), f32_to_f16(std::min(std::max(x, -65504.0f), 65504.0f)))
            << "token " << t << ", column " << k << ": " << x << " became " << f16_to_f32(this->x(t, k));
        written[size_t(t) * padded_cols(d_model_) + k_position(k)] = true;
        squares[k / kTileRows] += std::pow(double{after(t, k)}, 2);
      }
      for (int i = 0; i < squares_stride(d_model_); ++i)
        ASSERT_NEAR(squares_here_[size_t(t) * squares_stride(d_model_) + i], squares[i], 1e-6 * squares[i])
            << "token " << t << ", panel " << i;
    }
    for (size_t at = 0; at < written.size(); ++at)
      if (!written[at]) {
        ASSERT_EQ(x_here_[at], 0xffff) << "wrote position " << at << ", which is nobody's";
      }
    for (int i = 0; i < squares_stride(d_model_); ++i) {
      const size_t at = size_t(n_tokens_) * squares_stride(d_model_) + i;
      ASSERT_TRUE(i < n_panels() ? std::isnan(squares_here_[at]) : squares_here_[at] == 0) << "behind the last token";
    }
  }

  void check_next_scale() const {
    const std::vector<float> next = next_scale_->download();
    for (int t = 0; t < n_tokens_; ++t) {
      // Either side of a power of two, where the factor lies on one.
      const double r = factor(t);
      ASSERT_TRUE(next[t] == fold_scale(static_cast<float>(r * (1 - 1e-5))) ||
                  next[t] == fold_scale(static_cast<float>(r * (1 + 1e-5))))
          << "token " << t << ": " << next[t] << " after a norm by " << r;
    }
  }

 private:
  int n_panels() const { return (d_model_ + kTileRows - 1) / kTileRows; }

  int n_tokens_, d_model_;
  std::vector<float> before_, weight_, scale_, squares_, after_, squares_here_;
  std::vector<uint16_t> x_here_;
  std::vector<Int8Row> int8_rows_;
  std::unique_ptr<DeviceVector<float>> y_, weight_there_, scale_there_, next_scale_, squares_there_;
  std::unique_ptr<DeviceVector<uint16_t>> x_;
};

class NormFoldTest : public MatmulFixture, public ::testing::WithParamInterface<QuantType> {
 protected:
  void SetUp() override {
    MatmulFixture::SetUp();
    profile_.fused_norm_tokens = profile_.wide_norm_tokens = 255;  // where it can be, not only where it pays
  }

  // residual += x_scale * (w x), which leaves what the norm after it needs; everything is checked.
  void add(const Matrix& w, const Activations& x, float x_scale, int n_tokens, Residual& residual) {
    poison();
    matmul({.x = x.get(),
            .x_scale = x_scale,
            .parts = {w.packed},
            .n_parts = 1,
            .epilogue = Epilogue::kAdd,
            .y = residual.y(),
            .y_stride = w.n_rows,
            .next = residual.next()},
           n_tokens, workspace_, profile_, nullptr);
    residual.fetch();
    const std::vector<Dot> expected = expected_dots(w, x, n_tokens);
    for (int t = 0; t < n_tokens; ++t)
      for (int r = 0; r < w.n_rows; ++r) {
        const Dot& product = expected[size_t(t) * w.n_rows + r];
        const double sum = residual.before(t, r) + x_scale * product.sum;
        ASSERT_NEAR(residual.after(t, r), sum,
                    tolerance(w, n_tokens) * x_scale * product.magnitude + 0x1p-23 * std::abs(residual.before(t, r)))
            << "token " << t << ", row " << r;
      }
    residual.check_next();
  }

  // Products of the residual's activations, whose norm is made up for, against weights times the normalised rows.
  void expect_normalised(const std::vector<const Matrix*>& parts, int n_tokens, Residual& residual) {
    residual.zero_padding();
    int rows = 0;
    MatmulArgs args{.x = residual.x(), .n_parts = static_cast<int>(parts.size()), .norm = residual.folded()};
    for (size_t i = 0; i < parts.size(); ++i) {
      args.parts[i] = parts[i]->packed;
      rows += parts[i]->n_rows;
    }
    DeviceVector<float> y(size_t(n_tokens) * rows);
    y.fill(0xff);
    args.y = y.get();
    args.y_stride = rows;
    poison();
    matmul(args, n_tokens, workspace_, profile_, nullptr);
    const std::vector<float> actual = y.download();
    int column = 0;
    for (const Matrix* part : parts) {
      const std::vector<Expected> expected = normalised_dots(*part, residual, n_tokens);
      for (int t = 0; t < n_tokens; ++t)
        for (int r = 0; r < part->n_rows; ++r) {
          const Expected& e = expected[size_t(t) * part->n_rows + r];
          ASSERT_NEAR(actual[size_t(t) * rows + column + r], e.sum, e.bound)
              << "token " << t << ", row " << r << " of " << quant_name(part->type);
        }
      column += part->n_rows;
    }
    residual.check_next_scale();
  }

  struct Expected {
    double sum = 0, magnitude = 0, bound = 0;
  };
  // Of a row of weights and a normalised row. The bound: that of products, and the activations' rounding to float16;
  // of int8 activations, these are the reference themselves.
  Expected normalised_dot(const Matrix& w, int row, const Residual& residual, int t, int n_tokens,
                          double factor) const {
    Expected e{};
    if (takes_int8(w, n_tokens)) {
      const Int8Row& x = residual.int8_row(t);
      for (int k = 0; k < w.n_cols; ++k) {
        const double product = w.values[size_t(row) * w.n_cols + k] * x.value(k) * factor / residual.scale(t);
        e.sum += product;
        e.magnitude += std::abs(product);
      }
      e.bound = (kInt8Tolerance + 1e-5) * e.magnitude;
      return e;
    }
    for (int k = 0; k < w.n_cols; ++k) {
      const double weight = w.values[size_t(row) * w.n_cols + k];
      const double x = double{residual.after(t, k)} * residual.weight(k);
      e.sum += weight * x * factor;
      e.magnitude += std::abs(weight * x * factor);
      e.bound += std::abs(weight) * std::max(0x1p-11 * std::abs(x) * factor, 0x1p-25 * factor / residual.scale(t));
    }
    e.bound += (kTolerance + 1e-5) * e.magnitude;
    return e;
  }
  // Of all rows and tokens, [token][row].
  std::vector<Expected> normalised_dots(const Matrix& w, const Residual& residual, int n_tokens) const {
    std::vector<Expected> all(size_t(n_tokens) * w.n_rows);
    for_rows(w.n_rows, int64_t{n_tokens} * w.n_rows * w.n_cols, [&](int first, int last) {
      for (int t = 0; t < n_tokens; ++t) {
        const double factor = residual.factor(t);
        for (int r = first; r < last; ++r)
          all[size_t(t) * w.n_rows + r] = normalised_dot(w, r, residual, t, n_tokens, factor);
      }
    });
    return all;
  }
};

TEST_P(NormFoldTest, Addition_LeavesActivationsAndSquares) {
  for (const int n_rows : {1, 16, 40, 129, 528}) {
    const Matrix w = make_matrix(GetParam(), n_rows, 512, 1);
    for (const int n_tokens : kTokenCounts) {
      SCOPED_TRACE(::testing::Message() << n_rows << " rows, " << n_tokens << " tokens");
      const Activations x = make_activations(n_tokens, w.n_cols, 2);
      Residual residual(n_tokens, n_rows, 1, 1, 3);
      ASSERT_NO_FATAL_FAILURE(add(w, x, 1, n_tokens, residual));
    }
  }
}

TEST_P(NormFoldTest, AdditionOfAnySplit_LeavesActivationsAndSquares) {
  const Matrix w = make_matrix(GetParam(), 296, 2048, 4);
  for (const int warps_m : {1, 2, 8})
    for (const int split_k : {1, 2, 3, 8}) {
      profile_.mma_warps_m = warps_m;
      profile_.mma_split_k = split_k;
      for (const int n_tokens : {1, 3, 8, 16, 31, 64}) {
        SCOPED_TRACE(::testing::Message() << warps_m << " warps of rows, K in " << split_k << ", " << n_tokens);
        const Activations x = make_activations(n_tokens, w.n_cols, 5);
        Residual residual(n_tokens, w.n_rows, 1, 1, 6);
        ASSERT_NO_FATAL_FAILURE(add(w, x, 1, n_tokens, residual));
      }
    }
}

// By clusters of CTAs that share out the tokens.
TEST_P(NormFoldTest, AdditionThenProductsByAnyCluster_AreTheNormsBetween) {
  if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name;
  const int d_model = 768;
  const Matrix out = make_matrix(GetParam(), d_model, 2048, 42), q = make_matrix(GetParam(), 72, d_model, 43);
  for (const int warps_m : {0, 4, 16})
    for (const int split_k : {0, 3, 8}) {
      profile_.mma_warps_m = warps_m;
      profile_.mma_split_k = split_k;
      for (const int n_tokens : {19, 65}) {
        SCOPED_TRACE(::testing::Message()
                     << warps_m << " warps of rows, clusters of " << split_k << ", " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, out.n_cols, 44);
        Residual residual(n_tokens, d_model, 1, 1, 45);
        ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
        ASSERT_NO_FATAL_FAILURE(expect_normalised({&q}, n_tokens, residual));
      }
    }
}

// Queries, keys and values, also of types that take a launch of their own.
TEST_P(NormFoldTest, AdditionThenProducts_AreTheNormsBetween) {
  const int d_model = 768;
  const Matrix out = make_matrix(GetParam(), d_model, 256, 7);
  const Matrix q = make_matrix(GetParam(), 96, d_model, 8), k = make_matrix(GetParam(), 33, d_model, 9);
  const Matrix v = make_matrix(QuantType::kQ6_K, 48, d_model, 10),
               other = make_matrix(QuantType::kQ8_0, 17, d_model, 11);
  for (const int n_tokens : kTokenCounts) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, out.n_cols, 12);
    Residual residual(n_tokens, d_model, 1, 1, 13);
    ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
    ASSERT_NO_FATAL_FAILURE(expect_normalised({&q, &k, &v}, n_tokens, residual));
    ASSERT_NO_FATAL_FAILURE(expect_normalised({&other, &q}, n_tokens, residual));
  }
}

TEST_P(NormFoldTest, ProductsOfAnySplit_MakeUpForTheNorm) {
  const int d_model = 2048;
  const Matrix out = make_matrix(GetParam(), d_model, 256, 14), w = make_matrix(GetParam(), 150, d_model, 15);
  for (const int n_tokens : {1, 8, 16, 31, 64}) {
    const Activations x = make_activations(n_tokens, out.n_cols, 16);
    Residual residual(n_tokens, d_model, 1, 1, 17);
    ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
    for (const int warps_m : {1, 2, 8})
      for (const int split_k : {1, 3, 8}) {
        SCOPED_TRACE(::testing::Message() << warps_m << " warps of rows, K in " << split_k << ", " << n_tokens);
        profile_.mma_warps_m = warps_m;
        profile_.mma_split_k = split_k;
        ASSERT_NO_FATAL_FAILURE(expect_normalised({&w}, n_tokens, residual));
      }
    profile_.mma_warps_m = profile_.mma_split_k = 0;
  }
}

TEST_P(NormFoldTest, SwiGlu_MakesUpForTheNorm) {
  const int d_model = 512, d_ff = 272;
  const Matrix out = make_matrix(GetParam(), d_model, 256, 18);
  const Matrix gate = make_matrix(GetParam(), d_ff, d_model, 19), up = make_matrix(GetParam(), d_ff, d_model, 20);
  const Matrix other = make_matrix(QuantType::kQ5_0, d_ff, d_model, 21);  // not fused with a gate of another type
  for (const int n_tokens : kTokenCounts)
    for (const Matrix* second : {&up, &other}) {
      SCOPED_TRACE(::testing::Message() << n_tokens << " tokens, " << quant_name(second->type));
      const Activations x = make_activations(n_tokens, out.n_cols, 22);
      Residual residual(n_tokens, d_model, 1, 1, 23);
      ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
      DeviceVector<uint16_t> ff(size_t(n_tokens) * padded_cols(d_ff));
      ff.fill(0);
      poison();
      matmul({.x = residual.x(),
              .parts = {gate.packed, second->packed},
              .n_parts = 2,
              .epilogue = Epilogue::kSwiGlu,
              .ff = reinterpret_cast<__half*>(ff.get()),
              .norm = residual.folded()},
             n_tokens, workspace_, profile_, nullptr);
      const std::vector<uint16_t> actual = ff.download();
      const std::vector<Expected> of_gate = normalised_dots(gate, residual, n_tokens),
                                  of_up = normalised_dots(*second, residual, n_tokens);
      for (int t = 0; t < n_tokens; ++t)
        for (int r = 0; r < d_ff; ++r) {
          const Expected &g = of_gate[size_t(t) * d_ff + r], &u = of_up[size_t(t) * d_ff + r];
          const double expected = g.sum / (1 + std::exp(-g.sum)) * u.sum * kFfScale;
          // d(silu)/dg is under 1.1; then float16's own rounding.
          const double bound = kFfScale * (1.1 * g.bound * (std::abs(u.sum) + u.bound) + std::abs(g.sum) * u.bound) +
                               0x1p-11 * std::abs(expected) + 0x1p-24;
          ASSERT_NEAR(f16_to_f32(actual[size_t(t) * padded_cols(d_ff) + k_position(r)]), expected, bound)
              << "token " << t << ", row " << r;
        }
      residual.check_next_scale();
    }
}

// By CTAs that stay, of few warps and many, with a panel each and with several.
TEST_P(NormFoldTest, AdditionThenProductsByAnyRing_AreTheNormsBetween) {
  if (profile_.stream_int8_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  const int d_model = (profile_.n_sms / 16 + 1) * 256;  // a few panels more than there are SMs
  const Matrix out = make_matrix(GetParam(), d_model, 1024, 37), v = make_matrix(QuantType::kQ6_K, 40, d_model, 39),
               q = make_matrix(GetParam(), 16 * profile_.n_sms + 8, d_model, 38);
  for (const int n_warps : {4, 10, 16})
    for (const int n_tokens : {1, 2, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << n_warps << " warps, " << n_tokens << " tokens");
      profile_.stream_int8_warps = profile_.stream_warps = n_warps;
      const Activations x = make_activations(n_tokens, out.n_cols, 40);
      Residual residual(n_tokens, d_model, 1, 1, 41);
      ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
      ASSERT_NO_FATAL_FAILURE(expect_normalised({&q, &v}, n_tokens, residual));
    }
}

// The same of K that CTAs of clusters share.
TEST_P(NormFoldTest, AdditionThenProductsByRingsThatShareK_AreTheNormsBetween) {
  if (profile_.stream_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  profile_.stream_k_split_always = true;
  const int d_model = (profile_.n_sms / 16 + 1) * 256;
  const Matrix out = make_matrix(GetParam(), d_model, 1280, 46), v = make_matrix(QuantType::kQ6_K, 40, d_model, 48),
               q = make_matrix(GetParam(), 16 * profile_.n_sms + 8, d_model, 47);
  for (const int split : {2, 4})
    for (const int n_tokens : {2, 5, 8}) {
      SCOPED_TRACE(::testing::Message() << "K by " << split << " CTAs, " << n_tokens << " tokens");
      profile_.stream_k_split = split;
      const Activations x = make_activations(n_tokens, out.n_cols, 49);
      Residual residual(n_tokens, d_model, 1, 1, 50);
      ASSERT_NO_FATAL_FAILURE(add(out, x, 1, n_tokens, residual));
      ASSERT_NO_FATAL_FAILURE(expect_normalised({&q, &v}, n_tokens, residual));
    }
}

// Residuals of any size, that grow a thousandfold in one addition, or that are a 32nd of what they were at the norm
// before.
TEST_P(NormFoldTest, ExtremeResiduals_KeepTheirPrecision) {
  const int d_model = 512;
  const Matrix out = make_matrix(GetParam(), d_model, 512, 24), w = make_matrix(GetParam(), 64, d_model, 25);
  for (const float magnitude : {1e-6f, 1e-3f, 1.0f, 1e3f, 1e5f})
    for (const float growth : {0.0f, 1.0f, 1000.0f})
      for (const float ratio : {1.0f, 0x1p-5f})
        for (const int n_tokens : {1, 9, 64}) {
          SCOPED_TRACE(::testing::Message() << "magnitude " << magnitude << ", grown by " << growth
                                            << ", factor before " << ratio << " of it, " << n_tokens << " tokens");
          const Activations x = make_activations(n_tokens, out.n_cols, 26);
          Residual residual(n_tokens, d_model, magnitude, ratio, 27);
          ASSERT_NO_FATAL_FAILURE(add(out, x, magnitude * growth, n_tokens, residual));
          ASSERT_NO_FATAL_FAILURE(expect_normalised({&w}, n_tokens, residual));
        }
}

TEST_P(NormFoldTest, WhatOverflows_IsFloat16sLargest) {
  const int d_model = 512, n_tokens = 5;
  const Matrix out = make_matrix(GetParam(), d_model, 512, 28), w = make_matrix(GetParam(), 64, d_model, 29);
  const Activations x = make_activations(n_tokens, out.n_cols, 30);
  Residual residual(n_tokens, d_model, 1, 1, 31);
  ASSERT_NO_FATAL_FAILURE(add(out, x, 0x1p30f, n_tokens, residual));
  int n_largest = 0;
  for (int t = 0; t < n_tokens; ++t)
    for (int k = 0; k < d_model; ++k) n_largest += (residual.x(t, k) & 0x7fff) == 0x7bff;
  EXPECT_GT(n_largest, n_tokens * d_model / 2);
  residual.zero_padding();
  DeviceVector<float> y(size_t(n_tokens) * w.n_rows);
  y.fill(0xff);
  matmul({.x = residual.x(),
          .parts = {w.packed},
          .n_parts = 1,
          .y = y.get(),
          .y_stride = w.n_rows,
          .norm = residual.folded()},
         n_tokens, workspace_, profile_, nullptr);
  for (const float value : y.download()) ASSERT_TRUE(std::isfinite(value));
  residual.check_next_scale();
}

TEST(FoldedNorms, FewTokensAndTheWideKernels_HaveThresholdsOfTheirOwn) {
  DeviceProfile profile;
  profile.fused_norm_tokens = 2;
  profile.wide_norm_tokens = 64;
  profile.gemm_min_tokens = 256;
  const auto expect_folded = [&](std::initializer_list<int> folded, std::initializer_list<int> apart) {
    for (const int n_tokens : folded) {
      EXPECT_TRUE(can_fold_norm(n_tokens, profile)) << n_tokens;
      EXPECT_LE(n_tokens, max_folded_tokens(profile));
    }
    for (const int n_tokens : apart) EXPECT_FALSE(can_fold_norm(n_tokens, profile)) << n_tokens;
  };
  expect_folded({1, 2}, {3, 8, 9, 64, 65});  // a device without wgmma
  profile.wide_min_tokens = 9;
  expect_folded({1, 2, 9, 64}, {3, 8, 65, 256});
  profile.wide_norm_tokens = 512;
  expect_folded({1, 2, 9, 255}, {3, 8, 256, 512});
  profile.wide_norm_tokens = 0;
  expect_folded({1, 2}, {3, 8, 9, 64});
}

INSTANTIATE_TEST_SUITE_P(Types, NormFoldTest, ::testing::Values(QuantType::kQ4_K, QuantType::kQ8_0, QuantType::kF16),
                         [](const auto& test) { return std::string(quant_name(test.param)); });

}  // namespace
}  // namespace spate::cuda::testing
