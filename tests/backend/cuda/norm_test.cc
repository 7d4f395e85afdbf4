// RMSNorm on the GPU against its formula in double precision.
#include <cmath>
#include <gtest/gtest.h>
#include <random>

#include "backend/cuda/norm_fold.h"
#include "backend/cuda/ops.h"
#include "quant/half.h"

#include "device_vector.h"

namespace spate::cuda::testing {
namespace {

struct NormCase {
  int d_model;
  std::vector<int32_t> gather = {};  // empty: rows as they are
  int n_rows;                        // of the residual
  bool hidden = false;
};

void check(const NormCase& c) {
  constexpr float kEpsilon = 1e-5f;
  const int n_out = c.gather.empty() ? c.n_rows : static_cast<int>(c.gather.size());
  const int64_t stride = padded_cols(c.d_model);
  std::mt19937 random(c.d_model);
  std::normal_distribution<float> normal;
  std::vector<float> residual(size_t(c.n_rows) * c.d_model), weight(c.d_model);
  for (float& x : residual) x = 3 * normal(random);
  for (float& x : weight) x = normal(random);
  const DeviceVector<float> residual_there(residual), weight_there(weight);
  const DeviceVector<int32_t> gather(c.gather);
  DeviceVector<uint16_t> x(size_t(n_out + 1) * stride);
  DeviceVector<float> hidden(size_t(n_out + 1) * c.d_model), next_scale(n_out + 1);
  x.fill(0xff);
  hidden.fill(0xff);
  next_scale.fill(0xff);
  NormArgs args{};
  args.residual = residual_there.get();
  args.weight = weight_there.get();
  args.gather = c.gather.empty() ? nullptr : gather.get();
  args.x = reinterpret_cast<__half*>(x.get());
  args.hidden = c.hidden ? hidden.get() : nullptr;
  args.d_model = c.d_model;
  args.epsilon = kEpsilon;
  args.next_scale = next_scale.get();
  args.dependent_launch = probe_device(0)->dependent_launch;
  rms_norm(args, n_out, nullptr);
  SPATE_CUDA(cudaDeviceSynchronize(), "RMSNorm");
  const std::vector<uint16_t> got = x.download();
  const std::vector<float> got_hidden = hidden.download(), got_scale = next_scale.download();
  std::vector<bool> untouched(got.size(), true);
  for (int row = 0; row < n_out; ++row) {
    const int from = c.gather.empty() ? row : c.gather[row];
    double squares = 0;
    for (int k = 0; k < c.d_model && from >= 0; ++k) squares += std::pow(residual[size_t(from) * c.d_model + k], 2.0);
    const double scale = 1 / std::sqrt(squares / c.d_model + kEpsilon);
    // Either side of a power of two, where the factor lies on one.
    ASSERT_TRUE(got_scale[row] == fold_scale(static_cast<float>(scale * (1 - 1e-5))) ||
                got_scale[row] == fold_scale(static_cast<float>(scale * (1 + 1e-5))))
        << "row " << row << ": " << got_scale[row] << " after a norm by " << scale;
    for (int k = 0; k < c.d_model; ++k) {
      const double want = from >= 0 ? residual[size_t(from) * c.d_model + k] * scale * weight[k] : 0;
      const size_t at = row * stride + k_position(k);
      untouched[at] = false;
      ASSERT_NEAR(f16_to_f32(got[at]), want, (0x1p-11 + 1e-6) * std::abs(want) + 0x1p-25)
          << "row " << row << ", column " << k << " of " << c.d_model;
      if (c.hidden) {
        ASSERT_NEAR(got_hidden[size_t(row) * c.d_model + k], want, 1e-6 * std::abs(want))
            << "row " << row << ", column " << k << " of " << c.d_model;
      }
    }
  }
  for (size_t at = 0; at < got.size(); ++at)
    if (untouched[at]) {
      ASSERT_EQ(got[at], 0xffff) << "wrote position " << at << ", which is nobody's";
    }
  ASSERT_TRUE(std::isnan(got_scale[n_out])) << "wrote a scale past the last row";
  for (size_t at = c.hidden ? size_t(n_out) * c.d_model : 0; at < got_hidden.size(); ++at)
    ASSERT_TRUE(std::isnan(got_hidden[at])) << "wrote hidden element " << at;
}

class RmsNormTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
  }
};

TEST_F(RmsNormTest, AnyWidth_MatchesFormula) {
  for (const int d :
       {1, 2, 3, 4, 31, 32, 33, 64, 127, 128, 896, 1000, 1536, 3584, 4096, 5120, 8192, 12288, 16384, 16388, 18944})
    for (const bool hidden : {false, true}) check({.d_model = d, .n_rows = 3, .hidden = hidden});
}

TEST_F(RmsNormTest, ManyRows_AreEachTheirOwn) {
  for (const int n : {1, 17, 513}) check({.d_model = 576, .n_rows = n});
}

TEST_F(RmsNormTest, Gather_TakesRowsAndMakesZeros) {
  for (const int d : {5, 256, 4096}) check({.d_model = d, .gather = {4, 0, -1, 4, 2, -1}, .n_rows = 5, .hidden = true});
}

}  // namespace
}  // namespace spate::cuda::testing
