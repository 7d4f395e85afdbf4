// Products in FP8. What is decoded and quantised must be E4M3 to the bit; the products are compared with float64 sums
// over those, and with the sums that the weights and activations themselves have.
#include "backend/cuda/gemm_fp8.h"

#include <cmath>
#include <cstddef>
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include "backend/cuda/e4m3.h"
#include "backend/cuda/fp8_rows.h"
#include "backend/cuda/matmul_kernels.h"

#include "matmul_fixture.h"

namespace spate::cuda::testing {
namespace {

// Of sum |w x| over the E4M3 operands. The tensor cores of capability 9.0 add the 32 products of an instruction with
// some 14 bits, aligned to the largest; cuBLASLt moves the sums to float32 every few instructions.
constexpr double kSumTolerance = 0x1p-8;
constexpr double kResultRounding = 0x1p-9;  // bfloat16

float from_e4m3(uint8_t bits) {
  const __half_raw half = __nv_cvt_fp8_to_halfraw(bits, __NV_E4M3);
  return f16_to_f32(half.x);
}
// Of a float16 times 2^log2.
uint8_t to_e4m3(uint16_t half, int log2) {
  return __nv_cvt_float_to_fp8(std::ldexp(f16_to_f32(half), log2), __NV_SATFINITE, __NV_E4M3);
}

// ---- on the host

TEST(E4m3Scale, EveryMagnitude_EndsInTheUpperHalfOfTheRange) {
  for (uint32_t bits = 1; bits < 0x7c00; ++bits) {
    const int log2 = e4m3_scale_log2(bits);
    const double scaled = std::ldexp(double{f16_to_f32(static_cast<uint16_t>(bits))}, log2);
    ASSERT_LE(scaled, 448) << bits;
    ASSERT_TRUE(scaled > 224 || log2 == 15) << bits;
    // A float16 holds the power.
    ASSERT_EQ(f16_to_f32(static_cast<uint16_t>(half2_power(log2))), std::ldexp(1.0f, log2)) << bits;
    ASSERT_EQ(half2_power(log2) >> 16, half2_power(log2) & 0xffff);
  }
  EXPECT_EQ(e4m3_scale_log2(0), 15);
  EXPECT_EQ(e4m3_scale_log2(0x7c00), -8);  // infinity: as 2^16
}

PackedMatrix scaled_matrix(int n_rows, int scale_log2, int fp8_log2) {
  return {.type = QuantType::kQ4_K, .n_rows = n_rows, .n_cols = 256, .scale_log2 = scale_log2, .fp8_log2 = fp8_log2};
}

TEST(Fp8Groups, NearScales_AreOneMatrixOnTheSmallest) {
  const PackedMatrix parts[] = {scaled_matrix(64, 12, -4), scaled_matrix(16, 13, -7), scaled_matrix(32, 11, -2)};
  const Fp8Groups groups = group_parts(parts);
  ASSERT_EQ(groups.n, 1);
  EXPECT_EQ(groups.group[0].first, 0);
  EXPECT_EQ(groups.group[0].end, 3);
  EXPECT_EQ(groups.group[0].n_rows, 112);
  EXPECT_EQ(groups.group[0].log2, 6);
}

TEST(Fp8Groups, DistantScale_StandsAlone) {
  const PackedMatrix parts[] = {scaled_matrix(64, 12, -4), scaled_matrix(16, 12, -8), scaled_matrix(32, 14, -9)};
  const Fp8Groups groups = group_parts(parts);
  ASSERT_EQ(groups.n, 2);
  EXPECT_EQ(groups.group[0].end, 1);
  EXPECT_EQ(groups.group[0].log2, 8);
  EXPECT_EQ(groups.group[1].first, 1);
  EXPECT_EQ(groups.group[1].end, 3);
  EXPECT_EQ(groups.group[1].n_rows, 48);
  EXPECT_EQ(groups.group[1].log2, 4);
}

// Each step is small, all of them together are not.
TEST(Fp8Groups, ScalesThatDrift_AreNotAllOneMatrix) {
  const PackedMatrix parts[] = {scaled_matrix(16, 0, 0), scaled_matrix(16, 0, 3), scaled_matrix(16, 0, 6)};
  const Fp8Groups groups = group_parts(parts);
  ASSERT_EQ(groups.n, 2);
  EXPECT_EQ(groups.group[0].end, 2);
  EXPECT_EQ(groups.group[1].log2, 6);
}

TEST(CanMultiplyFp8, WithoutMemoryScalesOrWholePanels_IsRefused) {
  const Gemm* some_gemm = reinterpret_cast<const Gemm*>(alignof(std::max_align_t));  // is not looked into
  const MatmulWorkspace enough{.gate_up_elems = 1 << 20,
                               .decoded_elems = 1 << 20,
                               .gemm = some_gemm,
                               .fp8 = {.x_bytes = 512 * 256, .max_tokens = 512}};
  MatmulArgs args{.parts = {scaled_matrix(64, 0, 0)}, .n_parts = 1, .y_stride = 64};
  EXPECT_TRUE(can_multiply_fp8(args, 512, enough));
  EXPECT_FALSE(can_multiply_fp8(args, 513, enough));
  const auto without = [&](auto&& change) {
    MatmulWorkspace workspace = enough;
    change(workspace);
    return can_multiply_fp8(args, 512, workspace);
  };
  EXPECT_FALSE(without([](MatmulWorkspace& w) { w.gemm = nullptr; }));
  EXPECT_FALSE(without([](MatmulWorkspace& w) { w.fp8 = {}; }));
  EXPECT_FALSE(without([](MatmulWorkspace& w) { w.decoded_elems = 64 * 256 / 2 - 1; }));
  EXPECT_FALSE(without([](MatmulWorkspace& w) { w.gate_up_elems = 16 * 64 / 2 - 1; }));
  EXPECT_EQ(fp8_x_bytes(500, 200), enough.fp8.x_bytes) << "whole sixteens of tokens, whole tiles of columns";
  args.y_stride = 65;
  EXPECT_FALSE(can_multiply_fp8(args, 512, enough));
  args.y_stride = 64;
  args.parts[0].n_rows = 63;
  EXPECT_FALSE(can_multiply_fp8(args, 512, enough));
  args.parts[0] = scaled_matrix(64, 0, PackedMatrix::kFp8NotMeasured);
  EXPECT_FALSE(can_multiply_fp8(args, 512, enough));
}

// ---- on the GPU

class GemmFp8 : public MatmulFixture, public ::testing::WithParamInterface<QuantType> {
 protected:
  void SetUp() override {
    MatmulFixture::SetUp();
    if (IsSkipped()) return;
    if (gemm_ == nullptr) GTEST_SKIP() << "no cuBLASLt";
    if (const Result<void> set = profile_.set_prefill_precision("fp8"); !set) GTEST_SKIP() << set.error().message;
    profile_.gemm_min_tokens = 1;
    allocate();
  }

  // Weights or activations as the products get them, in their order and padding.
  struct Quantised {
    std::vector<uint8_t> bits;  // [n_rows, n_cols]
    std::vector<float> values;  // the same decoded, without their scale
    int n_cols = 0;
  };
  static Quantised decoded(std::vector<uint8_t> bits, int n_cols) {
    Quantised q{std::move(bits), {}, n_cols};
    for (const uint8_t b : q.bits) q.values.push_back(from_e4m3(b));
    return q;
  }

  // The float16 that every other way multiplies.
  std::vector<uint16_t> decode_half(const PackedMatrix& m) {
    const int panels = (m.n_rows + kTileRows - 1) / kTileRows, k_tiles = padded_cols(m.n_cols) / kTileCols;
    DeviceVector<__half> out(size_t(panels) * kTileRows * k_tiles * kTileCols);
    SPATE_CUDA(type_kernels(m.type).decode(m.tiles, m.row_factors, 0, panels, k_tiles, out.get(), {}), "decoding");
    std::vector<uint16_t> bits;
    for (const __half& half : out.download()) bits.push_back(__half_raw(half).x);
    return bits;
  }

  // On the host, from that.
  Quantised quantise_weights(const PackedMatrix& m, int log2) {
    std::vector<uint8_t> bits;
    for (const uint16_t half : decode_half(m)) bits.push_back(to_e4m3(half, log2));
    return decoded(std::move(bits), padded_cols(m.n_cols));
  }

  // factors: receives the tokens'.
  static Quantised quantise_activations(const Activations& x, int n_tokens, int n_cols, std::vector<float>& factors) {
    const std::vector<uint16_t> halves = x.device->download();
    const int stride = padded_cols(n_cols);
    std::vector<uint8_t> bits(halves.size());
    factors.clear();
    for (int t = 0; t < n_tokens; ++t) {
      uint32_t largest = 0;
      for (int k = 0; k < stride; ++k) largest = std::max<uint32_t>(largest, halves[size_t(t) * stride + k] & 0x7fff);
      const int log2 = e4m3_scale_log2(largest);
      factors.push_back(std::ldexp(1.0f, -log2));
      for (int k = 0; k < stride; ++k) bits[size_t(t) * stride + k] = to_e4m3(halves[size_t(t) * stride + k], log2);
    }
    return decoded(std::move(bits), stride);
  }

  static Dot dot_of(const Quantised& w, int row, const Quantised& x, int token) {
    Dot result;
    for (int k = 0; k < w.n_cols; ++k) {
      const double product = double{w.values[size_t(row) * w.n_cols + k]} * x.values[size_t(token) * w.n_cols + k];
      result.sum += product;
      result.magnitude += std::abs(product);
    }
    return result;
  }

  void measure(std::initializer_list<Matrix*> matrices) {
    std::vector<PackedMatrix*> packed;
    for (Matrix* m : matrices) packed.push_back(&m->packed);
    measure_fp8_scales(packed, workspace_, nullptr);
  }

  void expect_product(std::vector<const Matrix*> parts, int n_tokens, Epilogue epilogue);
  void expect_swiglu(const Matrix& gate, const Matrix& up, int n_tokens);

  double worst_ = 0;    // of the bound
  double typical_ = 0;  // root mean square of the error against the true sums, over that of these sums
  static constexpr int kCols = 768;
};

// What the operands' rounding can do to a sum of products whose magnitudes add up to `magnitude`: each is off by 2^-4
// at most, or by 2^-10 of the scale where it is lower than 2^-6 of it.
double operand_bound(double magnitude, double largest_product, int n_cols) {
  const double both = (1 + kE4m3Rounding) * (1 + kE4m3Rounding) - 1;
  return both * magnitude + 2 * kE4m3Underflow / 224 * largest_product * n_cols;
}

void GemmFp8::expect_product(std::vector<const Matrix*> parts, int n_tokens, Epilogue epilogue) {
  const Activations x = make_activations(n_tokens, kCols, 2);
  MatmulArgs args{.x = x.get(), .x_scale = 4, .n_parts = static_cast<int>(parts.size()), .epilogue = epilogue};
  std::vector<PackedMatrix> packed;
  int rows = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    packed.push_back(args.parts[i] = parts[i]->packed);
    rows += parts[i]->n_rows;
  }
  const int stride = rows + 4;
  std::vector<float> initial(size_t(n_tokens) * stride, NAN);
  if (epilogue == Epilogue::kAdd)
    for (size_t i = 0; i < initial.size(); ++i) initial[i] = static_cast<float>(i % 13) - 6;
  DeviceVector<float> y(initial);
  args.y = y.get();
  args.y_stride = stride;
  poison();
  ASSERT_TRUE(can_multiply_fp8(args, n_tokens, workspace_));
  matmul(args, n_tokens, workspace_, profile_, nullptr);
  const std::vector<float> actual = y.download();

  std::vector<float> factors;
  const Quantised qx = quantise_activations(x, n_tokens, kCols, factors);
  const Fp8Groups groups = group_parts(packed);
  double squared_error = 0, squared_sums = 0;
  int column = 0;
  for (int g = 0; g < groups.n; ++g) {
    for (int i = groups.group[g].first; i < groups.group[g].end; ++i) {
      const Matrix& m = *parts[i];
      const int log2 = groups.group[g].log2;
      const Quantised qw = quantise_weights(m.packed, log2 - m.packed.decoded_log2());
      for (int r = 0; r < m.n_rows; ++r, ++column) {
        for (int t = 0; t < n_tokens; ++t) {
          const size_t at = size_t(t) * stride + column;
          const double scale = std::ldexp(4.0 * factors[t], -log2),
                       before = epilogue == Epilogue::kAdd ? initial[at] : 0;
          const Dot quantised = dot_of(qw, r, qx, t);
          const double expected = scale * quantised.sum;
          const double bound = scale * kSumTolerance * quantised.magnitude + 2 * kResultRounding * std::abs(expected) +
                               0x1p-23 * std::abs(before);
          const double error = std::abs(actual[at] - before - expected);
          ASSERT_LE(error, bound) << "token " << t << ", row " << r << " of " << quant_name(m.type) << ": "
                                  << actual[at] - before << " instead of " << expected;
          worst_ = std::max(worst_, error / bound);
          const Dot exact = dot(m, r, x, t);
          const double true_error = std::abs(actual[at] - before - 4 * exact.sum);
          ASSERT_LE(true_error, bound + 4 * operand_bound(exact.magnitude, scale / 4 * 448 * 448, m.n_cols))
              << "token " << t << ", row " << r << " of " << quant_name(m.type);
          squared_error += true_error * true_error;
          squared_sums += 16 * exact.sum * exact.sum;
        }
      }
    }
  }
  typical_ = std::max(typical_, std::sqrt(squared_error / squared_sums));
  for (int t = 0; t < n_tokens; ++t)
    for (int c = rows; c < stride; ++c) {
      const size_t at = size_t(t) * stride + c;
      ASSERT_TRUE(std::isnan(initial[at]) ? std::isnan(actual[at]) : actual[at] == initial[at]) << "behind " << t;
    }
}

void GemmFp8::expect_swiglu(const Matrix& gate, const Matrix& up, int n_tokens) {
  const Activations x = make_activations(n_tokens, kCols, 7);
  const int stride = padded_cols(gate.n_rows);
  DeviceVector<__half> ff(size_t(n_tokens) * stride);
  ff.fill(0);
  poison();
  const MatmulArgs args{
      .x = x.get(), .parts = {gate.packed, up.packed}, .n_parts = 2, .epilogue = Epilogue::kSwiGlu, .ff = ff.get()};
  ASSERT_TRUE(can_multiply_fp8(args, n_tokens, workspace_));
  matmul(args, n_tokens, workspace_, profile_, nullptr);
  const std::vector<__half> actual = ff.download();

  std::vector<float> factors;
  const Quantised qx = quantise_activations(x, n_tokens, kCols, factors);
  const Fp8Groups groups = group_parts(std::span(args.parts, 2));
  const int gate_log2 = groups.group[0].log2, up_log2 = groups.group[groups.n - 1].log2;
  const Quantised qg = quantise_weights(gate.packed, gate_log2 - gate.packed.decoded_log2());
  const Quantised qu = quantise_weights(up.packed, up_log2 - up.packed.decoded_log2());
  for (int t = 0; t < n_tokens; ++t) {
    std::vector<bool> written(stride);
    for (int r = 0; r < gate.n_rows; ++r) {
      const auto scaled = [&](const Quantised& w, int log2) {
        Dot d = dot_of(w, r, qx, t);
        const double scale = std::ldexp(double{factors[t]}, -log2);
        d.sum *= scale;
        d.magnitude = scale * kSumTolerance * d.magnitude + 2 * kResultRounding * std::abs(d.sum);
        return d;
      };
      const Dot g = scaled(qg, gate_log2), u = scaled(qu, up_log2);
      const double expected = g.sum / (1 + std::exp(-g.sum)) * u.sum * kFfScale;
      // d(silu)/dg is under 1.1; then float16's own rounding.
      const double bound =
          kFfScale * (1.1 * g.magnitude * (std::abs(u.sum) + u.magnitude) + std::abs(g.sum) * u.magnitude) +
          0x1p-10 * std::abs(expected) + 0x1p-24;
      const size_t at = size_t(t) * stride + k_position(r);
      written[k_position(r)] = true;
      ASSERT_NEAR(f16_to_f32(__half_raw(actual[at]).x), expected, bound) << "token " << t << ", row " << r;
    }
    for (int k = 0; k < stride; ++k)
      ASSERT_TRUE(written[k] || __half_raw(actual[size_t(t) * stride + k]).x == 0) << "padding of token " << t;
  }
}

TEST_P(GemmFp8, DecodedWeights_AreTheFloat16OnesRounded) {
  const Matrix m = make_matrix(GetParam(), 40, kCols, 1);
  const int panels = 3, k_tiles = kCols / kTileCols;
  for (const int log2 : {-9, -5, 0, 4}) {
    DeviceVector<std::byte> out(size_t(panels) * kTileRows * kCols);
    out.fill(0xff);
    SPATE_CUDA(
        type_kernels(GetParam())
            .decode_e4m3(m.packed.tiles, m.packed.row_factors, panels, k_tiles, half2_power(log2), out.get(), {}),
        "decoding");
    const std::vector<std::byte> actual = out.download();
    const Quantised expected = quantise_weights(m.packed, log2);
    ASSERT_EQ(actual.size(), expected.bits.size());
    for (size_t i = 0; i < actual.size(); ++i)
      ASSERT_EQ(static_cast<uint8_t>(actual[i]), expected.bits[i])
          << "row " << i / kCols << ", position " << i % kCols << ", times 2^" << log2;
  }
}

TEST_P(GemmFp8, MeasuredScales_BringTheLargestWeightToTheTop) {
  Matrix a = make_matrix(GetParam(), 64, kCols, 3), b = make_matrix(GetParam(), 16, 256, 4);
  measure({&a, &b});
  for (const Matrix* m : {&a, &b}) {
    uint32_t largest = 0;
    for (const uint16_t half : decode_half(m->packed)) largest = std::max<uint32_t>(largest, half & 0x7fff);
    EXPECT_EQ(m->packed.fp8_log2, e4m3_scale_log2(largest));
  }
}

TEST_P(GemmFp8, EveryTokenCount_IsTheSum) {
  Matrix w = make_matrix(GetParam(), 48, kCols, 1);
  measure({&w});
  for (const int n_tokens : {1, 16, 17, 65, 300, 512}) {
    SCOPED_TRACE(n_tokens);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, n_tokens, Epilogue::kStore));
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, n_tokens, Epilogue::kAdd));
  }
  std::printf("%s: at worst %.2g of the bound; against the sums before quantising %.2g %% (root mean squares)\n",
              std::string(quant_name(GetParam())).c_str(), worst_, typical_ * 100);
}

TEST_P(GemmFp8, PartsOfOtherTypesAndScales_AreTheirOwn) {
  Matrix q = make_matrix(GetParam(), 96, kCols, 8), k = make_matrix(QuantType::kQ4_K, 32, kCols, 9);
  Matrix v = make_matrix(QuantType::kQ6_K, 32, kCols, 10);
  measure({&q, &k, &v});
  ASSERT_NO_FATAL_FAILURE(expect_product({&q, &k, &v}, 100, Epilogue::kStore));
  // As if one of them had a much larger weight: the products are cut apart, and stay right.
  const auto total = [](const Matrix& m) { return m.packed.decoded_log2() + m.packed.fp8_log2; };
  k.packed.fp8_log2 = std::min({total(q), total(k), total(v)}) - 5 - k.packed.decoded_log2();
  ASSERT_EQ(group_parts(std::vector{q.packed, k.packed, v.packed}).n, 3);
  ASSERT_NO_FATAL_FAILURE(expect_product({&q, &k, &v}, 100, Epilogue::kStore));
}

TEST_P(GemmFp8, SwiGlu_IsTheFormula) {
  Matrix gate = make_matrix(GetParam(), 272, kCols, 5), up = make_matrix(GetParam(), 272, kCols, 6);
  measure({&gate, &up});
  for (const int n_tokens : {16, 300}) {
    SCOPED_TRACE(n_tokens);
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(gate, up, n_tokens));
  }
  // Products' memory for a third of the tokens: they come in four pieces.
  workspace_.gate_up_elems = 100 * 2 * 272 / 2;
  ASSERT_NO_FATAL_FAILURE(expect_swiglu(gate, up, 300));
}

// Steps that FP8 does not take over are as without it, to the bit.
TEST_P(GemmFp8, ShorterStepsAndOddRows_AreInFloat16) {
  Matrix w = make_matrix(GetParam(), 40, kCols, 14);
  measure({&w});
  const Activations x = make_activations(300, kCols, 15);
  const auto product = [&](bool fp8, int n_tokens) {
    const MatmulWorkspace all = workspace_;
    if (!fp8) workspace_.fp8 = {};
    DeviceVector<float> y(size_t(n_tokens) * 40);
    y.fill(0x11);
    matmul({.x = x.get(), .parts = {w.packed}, .n_parts = 1, .y = y.get(), .y_stride = 40}, n_tokens, workspace_,
           profile_, nullptr);
    workspace_ = all;
    return y.download();
  };
  EXPECT_EQ(product(true, 300), product(false, 300)) << "40 rows are not whole panels";
  profile_.gemm_min_tokens = 256;
  w.packed.n_rows = 32;
  EXPECT_EQ(product(true, 255), product(false, 255));
  EXPECT_NE(product(true, 300), product(false, 300));
}

INSTANTIATE_TEST_SUITE_P(EveryType, GemmFp8, ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end()),
                         [](const auto& test) { return std::string(quant_name(test.param)); });

}  // namespace
}  // namespace spate::cuda::testing
