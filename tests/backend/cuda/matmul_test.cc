// Matrix products on the GPU, of every quant type by every tier, against float64 sums over the qblocks' own decode and
// the activations that the kernel multiplies, float16 or int8.
#include "backend/cuda/matmul.h"

#include <cmath>
#include <gtest/gtest.h>

#include "backend/cuda/cluster_room.h"
#include "backend/cuda/matmul_kernels.h"

#include "matmul_fixture.h"

namespace spate::cuda::testing {
namespace {

constexpr float kPoison = NAN;

class MatmulTest : public MatmulFixture {
 protected:
  // Runs the product of x with the matrices and compares every output; y starts as `initial`.
  void expect_product(const std::vector<const Matrix*>& parts, const Activations& x, int n_tokens, Epilogue epilogue) {
    int rows = 0;
    MatmulArgs args{.x = x.get(), .n_parts = static_cast<int>(parts.size()), .epilogue = epilogue};
    for (size_t i = 0; i < parts.size(); ++i) {
      args.parts[i] = parts[i]->packed;
      rows += parts[i]->n_rows;
    }
    const int stride = rows + 3;
    std::vector<float> initial(size_t(n_tokens) * stride, kPoison);
    if (epilogue == Epilogue::kAdd) {
      for (size_t i = 0; i < initial.size(); ++i) initial[i] = static_cast<float>(i % 13) - 6;
    }
    DeviceVector<float> y(initial);
    args.y = y.get();
    args.y_stride = stride;
    poison();
    matmul(args, n_tokens, workspace_, profile_, nullptr);
    const std::vector<float> actual = y.download();

    std::vector<std::vector<Dot>> dots_of;
    for (const Matrix* part : parts) dots_of.push_back(expected_dots(*part, x, n_tokens));
    double worst = 0;
    for (int t = 0; t < n_tokens; ++t) {
      int column = 0;
      for (size_t i = 0; i < parts.size(); ++i) {
        const Matrix* part = parts[i];
        for (int r = 0; r < part->n_rows; ++r, ++column) {
          const size_t at = size_t(t) * stride + column;
          const Dot& expected = dots_of[i][size_t(t) * part->n_rows + r];
          const double sum = expected.sum + (epilogue == Epilogue::kAdd ? initial[at] : 0);
          const double error = std::abs(actual[at] - sum),
                       bound = tolerance(*part, n_tokens) * expected.magnitude + 0x1p-24 * std::abs(sum);
          if (bound > 0) worst = std::max(worst, error / bound);
          ASSERT_LE(error, bound) << "token " << t << ", row " << r << " of " << quant_name(part->type) << ": "
                                  << actual[at] << " instead of " << sum;
        }
      }
      for (; column < stride; ++column) {
        const size_t at = size_t(t) * stride + column;
        ASSERT_TRUE(std::isnan(initial[at]) ? std::isnan(actual[at]) : actual[at] == initial[at])
            << "behind token " << t;
      }
    }
    worst_ = std::max(worst_, worst);
  }

  void expect_swiglu(const Matrix& gate, const Matrix& up, const Activations& x, int n_tokens) {
    const int stride = padded_cols(gate.n_rows);
    DeviceVector<__half> ff(size_t(n_tokens) * stride);
    ff.fill(0);
    poison();
    matmul(
        {.x = x.get(), .parts = {gate.packed, up.packed}, .n_parts = 2, .epilogue = Epilogue::kSwiGlu, .ff = ff.get()},
        n_tokens, workspace_, profile_, nullptr);
    const std::vector<__half> actual = ff.download();
    const std::vector<Dot> of_gate = expected_dots(gate, x, n_tokens), of_up = expected_dots(up, x, n_tokens);
    for (int t = 0; t < n_tokens; ++t) {
      for (int r = 0; r < gate.n_rows; ++r) {
        const Dot &g = of_gate[size_t(t) * gate.n_rows + r], &u = of_up[size_t(t) * up.n_rows + r];
        const double expected = g.sum / (1 + std::exp(-g.sum)) * u.sum * kFfScale;
        // d(silu)/dg is under 1.1; then float16's own rounding.
        const double bound = kFfScale * (1.1 * tolerance(gate, n_tokens) * g.magnitude * std::abs(u.sum) +
                                         tolerance(up, n_tokens) * std::abs(g.sum) * u.magnitude) +
                             0x1p-11 * std::abs(expected) + 0x1p-24;
        const float value = f16_to_f32(__half_raw(actual[size_t(t) * stride + k_position(r)]).x);
        ASSERT_NEAR(value, expected, bound) << "token " << t << ", row " << r << " of " << quant_name(gate.type);
      }
    }
  }

  double worst_ = 0;
};

constexpr int kTokenCounts[] = {1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 128, 512};

class MatmulTypes : public MatmulTest, public ::testing::WithParamInterface<QuantType> {};

TEST_P(MatmulTypes, EveryTokenCount_IsTheSum) {
  const Matrix w = make_matrix(GetParam(), 40, 768, 1);
  for (const int n_tokens : kTokenCounts) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, w.n_cols, 2);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kAdd));
  }
  std::printf("%s: at worst %.2g of the bound\n", std::string(quant_name(GetParam())).c_str(), worst_);
}

TEST_P(MatmulTypes, AwkwardShapes_AreTheSum) {
  const int step = quant_traits(GetParam()).block_elems == 256 ? 256 : 32;
  for (const int n_rows : {1, 15, 16, 17, 129, 528}) {
    for (const int n_cols : {step, 3 * step, 7 * 256 + step, 4096}) {
      const Matrix w = make_matrix(GetParam(), n_rows, n_cols, 3);
      for (const int n_tokens : {1, 5, 20, 40, 70}) {
        SCOPED_TRACE(::testing::Message() << n_rows << " x " << n_cols << ", " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, n_cols, 4);
        ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
      }
    }
  }
}

TEST_P(MatmulTypes, SwiGlu_IsTheFormula) {
  const Matrix gate = make_matrix(GetParam(), 272, 512, 5), up = make_matrix(GetParam(), 272, 512, 6);
  for (const int n_tokens : {1, 2, 8, 9, 24, 33, 100, 512}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, 512, 7);
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(gate, up, x, n_tokens));
  }
}

// Parts side by side, as queries, keys and values of different types are.
TEST_P(MatmulTypes, BesideOtherTypes_EachPartIsItsOwn) {
  const Matrix q = make_matrix(GetParam(), 96, 512, 8), k = make_matrix(GetParam(), 33, 512, 9);
  const Matrix v = make_matrix(QuantType::kQ6_K, 48, 512, 10);
  for (const int n_tokens : {1, 6, 30, 65, 300}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, 512, 11);
    ASSERT_NO_FATAL_FAILURE(expect_product({&q, &k, &v}, x, n_tokens, Epilogue::kStore));
    ASSERT_NO_FATAL_FAILURE(expect_product({&v, &q, &k}, x, n_tokens, Epilogue::kStore));
  }
  const Matrix up = make_matrix(QuantType::kQ6_K, 96, 512, 12);
  for (const int n_tokens : {1, 40})
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(q, up, make_activations(n_tokens, 512, 13), n_tokens));
}

// Parts of two types that share a launch of matmul_wide.cuh: with panels that fill CTAs and that do not, of the last
// part of the first type and of all; rows of K to each CTA of a cluster.
TEST_P(MatmulTypes, BesideOtherTypesInOneWideLaunch_EachPartIsItsOwn) {
  if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name;
  const int n_cols = 768;
  const Matrix q = make_matrix(GetParam(), 256, n_cols, 31), k = make_matrix(GetParam(), 33, n_cols, 32);
  for (const QuantType other : {QuantType::kQ6_K, QuantType::kQ5_K, QuantType::kQ4_K, QuantType::kQ3_K}) {
    if (wide_pair_kernel(GetParam(), other) == nullptr) continue;
    const Matrix v = make_matrix(other, 150, n_cols, 33), w = make_matrix(other, 5, n_cols, 34);
    for (const int warps_m : {0, 4, 8, 16}) {
      for (const int cluster : {1, 3}) {
        profile_.mma_warps_m = warps_m;
        profile_.mma_split_k = cluster;
        for (const int n_tokens : {9, 64, 65}) {
          SCOPED_TRACE(::testing::Message() << warps_m << " warps of rows, clusters of " << cluster << ", " << n_tokens
                                            << " tokens beside " << quant_name(other));
          const Activations x = make_activations(n_tokens, n_cols, 35);
          ASSERT_NO_FATAL_FAILURE(expect_product({&q, &k, &v}, x, n_tokens, Epilogue::kStore));
          ASSERT_NO_FATAL_FAILURE(expect_product({&q, &w}, x, n_tokens, Epilogue::kStore));
          ASSERT_NO_FATAL_FAILURE(expect_product({&k, &v, &w}, x, n_tokens, Epilogue::kAdd));
        }
      }
    }
  }
}

// Every split of rows and of K that --tune can ask for.
TEST_P(MatmulTypes, RowsOfVeryDifferentSize_AreTheSum) {
  const float deviations[] = {2, 0x1p-5f, 0x1p-10f};
  const Matrix w = make_matrix(GetParam(), 80, 1024, 1, deviations),
               up = make_matrix(GetParam(), 80, 1024, 2, deviations);
  ASSERT_EQ(w.packed.row_factors != nullptr, quant_traits(GetParam()).block_elems > 1);
  for (const int n_tokens : {1, 5, 9, 32, 70, 512}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, w.n_cols, 3);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w, &up}, x, n_tokens, Epilogue::kStore));
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kAdd));
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, n_tokens));
  }
}

TEST_P(MatmulTypes, EverySplit_IsTheSum) {
  const Matrix w = make_matrix(GetParam(), 300, 2048, 14);
  for (const int warps_m : {1, 2, 4, 8}) {
    for (const int split_k : {1, 2, 3, 8}) {
      profile_.mma_warps_m = warps_m;
      profile_.mma_split_k = split_k;
      for (const int n_tokens : {1, 8, 16, 32, 64}) {
        SCOPED_TRACE(::testing::Message()
                     << warps_m << " warps of rows, K in " << split_k << ", " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, 2048, 15);
        ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
      }
    }
  }
}

// The kernels of devices without wgmma, for the tokens that it takes where there is.
TEST_P(MatmulTypes, WithoutWgmma_IsTheSum) {
  if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name << ": the other tests run these";
  profile_.wide_min_tokens = 0;
  const Matrix w = make_matrix(GetParam(), 300, 1280, 20), up = make_matrix(GetParam(), 300, 1280, 21);
  for (const int n_tokens : {9, 16, 17, 32, 33, 64, 100}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, w.n_cols, 22);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kAdd));
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, n_tokens));
  }
}

// Decoded once, then cuBLASLt, from fewer tokens on than where that pays.
TEST_P(MatmulTypes, ThroughCublas_IsTheSum) {
  if (gemm_ == nullptr) GTEST_SKIP() << "no cuBLASLt";
  profile_.gemm_min_tokens = 256;
  const Matrix w = make_matrix(GetParam(), 300, 1280, 25), up = make_matrix(GetParam(), 300, 1280, 26);
  for (const int n_tokens : {256, 300}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, w.n_cols, 27);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kAdd));
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, n_tokens));
  }
  // More tokens than are multiplied at once, with room for both matrices and for one of them.
  const int n_tokens = 1100, n_rows = 48, n_cols = 512;
  const Matrix gate = make_matrix(GetParam(), n_rows, n_cols, 28), other = make_matrix(GetParam(), n_rows, n_cols, 29);
  const Activations x = make_activations(n_tokens, n_cols, 30);
  for (const int64_t decoded_elems : {workspace_.decoded_elems, int64_t{n_rows} * n_cols}) {
    SCOPED_TRACE(decoded_elems);
    workspace_.decoded_elems = decoded_elems;
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(gate, other, x, n_tokens));
  }
}

// Every cut of matmul_wide.cuh: one warpgroup of rows to all; K whole and shared by clusters of up to 8 CTAs, a tile
// each (more warps than there are tiles) and several; one group of tokens and several, full and not, of which each CTA
// of a cluster writes some or none; panels of gate that fill a CTA and others.
TEST_P(MatmulTypes, EveryWideCut_IsTheSum) {
  if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name;
  const int n_cols = 2048 + 256;
  const Matrix w = make_matrix(GetParam(), 272, n_cols, 23), gate = make_matrix(GetParam(), 150, n_cols, 24),
               up = make_matrix(GetParam(), 150, n_cols, 25);
  for (const int warps_m : {4, 8, 16}) {
    for (const int split_k : {1, 3, 8}) {
      profile_.mma_warps_m = warps_m;
      profile_.mma_split_k = split_k;
      for (const int n_tokens : {9, 16, 17, 32, 33, 64, 66, 128, 131}) {
        if (n_tokens > 66 && (split_k != 8 || warps_m != 8)) continue;  // three tokens for eight CTAs, too
        SCOPED_TRACE(::testing::Message()
                     << warps_m << " warps of rows, clusters of " << split_k << ", " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, n_cols, 26);
        ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, split_k == 3 ? Epilogue::kAdd : Epilogue::kStore));
        ASSERT_NO_FATAL_FAILURE(expect_swiglu(gate, up, x, n_tokens));
      }
    }
  }
}

// The table's own cuts, in clusters of up to each size.
TEST_P(MatmulTypes, PlannedWideClusters_AreTheSum) {
  if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name;
  const Matrix w = make_matrix(GetParam(), 400, 2048, 27);
  for (profile_.wide_cluster = 1; profile_.wide_cluster <= kMaxCluster; ++profile_.wide_cluster) {
    for (const int n_tokens : {20, 64, 150}) {
      SCOPED_TRACE(::testing::Message() << "clusters of up to " << profile_.wide_cluster << ", " << n_tokens
                                        << " tokens");
      const Activations x = make_activations(n_tokens, w.n_cols, 28);
      ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
    }
  }
}

// Of few panels and of many to a CTA, K of less than a segment and of several, of many warps with short rings and of
// few with long ones.
TEST_P(MatmulTypes, EveryRing_IsTheSum) {
  if (profile_.stream_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  profile_.stream_int8_tokens = 0;
  profile_.stream_decoded_tokens = 8;
  const int n_panels = 5 * profile_.n_sms / 2;
  for (const auto& [n_rows, n_cols] : {std::pair(16 * n_panels + 3, 256), std::pair(16 * n_panels - 5, 1536),
                                       std::pair(40, 256), std::pair(100, 4096)}) {
    const Matrix w = make_matrix(GetParam(), n_rows, n_cols, 18);
    const Matrix v = make_matrix(QuantType::kQ6_K, 200, 1536, 29);
    for (const int n_warps : {4, 10, 22}) {
      profile_.stream_warps = n_warps;
      for (const int n_tokens : {1, 2, 5, 8}) {
        SCOPED_TRACE(::testing::Message()
                     << n_rows << " x " << n_cols << ", " << n_warps << " warps, " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, n_cols, 19);
        ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
        if (n_cols != v.n_cols) continue;
        ASSERT_NO_FATAL_FAILURE(expect_product({&w, &v}, x, n_tokens, Epilogue::kAdd));
      }
    }
  }
}

// K shared in clusters: evenly and not, of a tile to a CTA and of many, of panels for one cluster and of so many that
// places for sums come round; short rings and long ones, and parts of two types.
TEST_P(MatmulTypes, EveryRingThatSharesK_IsTheSum) {
  if (profile_.stream_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  profile_.stream_int8_tokens = 0;
  profile_.stream_decoded_tokens = 8;
  profile_.stream_k_split_always = true;
  for (const auto& [n_rows, n_cols] :
       {std::pair(16 * 5 * profile_.n_sms + 3, 1280), std::pair(40, 2304), std::pair(100, 4096)}) {
    const Matrix w = make_matrix(GetParam(), n_rows, n_cols, 60), up = make_matrix(GetParam(), n_rows, n_cols, 61);
    const Matrix v = make_matrix(QuantType::kQ6_K, 200, n_cols, 62);
    for (const int split : {2, 4}) {
      profile_.stream_k_split = split;
      for (const int n_warps : {4, 22}) {
        profile_.stream_warps = n_warps;
        for (const int n_tokens : {1, 3, 8}) {
          SCOPED_TRACE(::testing::Message() << n_rows << " x " << n_cols << ", K by " << split << " CTAs of " << n_warps
                                            << " warps, " << n_tokens << " tokens");
          const Activations x = make_activations(n_tokens, n_cols, 63);
          ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
          if (n_rows > 100 && n_tokens < 8) continue;
          ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, n_tokens));
          ASSERT_NO_FATAL_FAILURE(expect_product({&w, &v}, x, n_tokens, Epilogue::kAdd));
        }
      }
    }
  }
}

// As long rows' products of 5 to 8 tokens are planned, of K that is shared out evenly and of K that is not.
TEST_P(MatmulTypes, LongRowsThatShareK_AreTheSum) {
  if (profile_.stream_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  profile_.stream_decoded_tokens = 8;
  for (const int n_cols : {14336, 14336 + 256}) {
    const Matrix w = make_matrix(GetParam(), 100, n_cols, 64);
    for (const int split : {2, 4}) {
      profile_.stream_k_split = split;
      for (const int n_tokens : {5, 6, 7, 8}) {
        SCOPED_TRACE(::testing::Message() << n_cols << " columns by " << split << " CTAs, " << n_tokens << " tokens");
        const Activations x = make_activations(n_tokens, n_cols, 65);
        ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kAdd));
      }
    }
  }
}

// One token as int8 by CTAs that stay: of few panels and of many to a CTA, K of less than a tile, of less than a
// segment and of several, of warps with short rings and with long ones, each ring many times round, and with parts of
// two types.
TEST_P(MatmulTypes, EveryInt8Ring_IsTheSum) {
  if (profile_.stream_int8_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
  const int step = quant_traits(GetParam()).block_elems == 256 ? 256 : 32, n_panels = 5 * profile_.n_sms / 2;
  for (const auto& [n_rows, n_cols] : {std::pair(16 * n_panels + 3, 256), std::pair(16 * n_panels - 5, 1536),
                                       std::pair(17, step), std::pair(40, 3 * 256 + step), std::pair(100, 4096)}) {
    const Matrix w = make_matrix(GetParam(), n_rows, n_cols, 27), up = make_matrix(GetParam(), n_rows, n_cols, 28);
    const Matrix v = make_matrix(QuantType::kQ6_K, 200, 1536, 29);
    const Activations x = make_activations(1, n_cols, 30);
    for (const int n_warps : {4, 10, 16}) {
      profile_.stream_int8_warps = n_warps;
      SCOPED_TRACE(::testing::Message() << n_rows << " x " << n_cols << ", " << n_warps << " warps");
      ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, 1, Epilogue::kStore));
      ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, 1, Epilogue::kAdd));
      ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, 1));
      if (n_cols != v.n_cols) continue;
      ASSERT_NO_FATAL_FAILURE(expect_product({&w, &up, &v}, x, 1, Epilogue::kStore));
      ASSERT_NO_FATAL_FAILURE(expect_product({&v, &w}, x, 1, Epilogue::kStore));
    }
  }
}

// Up to 8 tokens as float16, without bulk copies.
TEST_P(MatmulTypes, WithoutRings_IsTheSum) {
  profile_.stream_tokens = profile_.stream_int8_tokens = profile_.stream_decoded_tokens = 0;
  const Matrix w = make_matrix(GetParam(), 300, 2048, 24), up = make_matrix(GetParam(), 300, 2048, 25);
  for (const int n_tokens : {1, 2, 3, 8}) {
    SCOPED_TRACE(n_tokens);
    const Activations x = make_activations(n_tokens, 2048, 26);
    ASSERT_NO_FATAL_FAILURE(expect_product({&w}, x, n_tokens, Epilogue::kStore));
    ASSERT_NO_FATAL_FAILURE(expect_product({&w, &up}, x, n_tokens, Epilogue::kAdd));
    ASSERT_NO_FATAL_FAILURE(expect_swiglu(w, up, x, n_tokens));
  }
}

// A token's sums do not depend on what else is in the step, within a tier.
TEST_P(MatmulTypes, RunAgain_SameBits) {
  const Matrix w = make_matrix(GetParam(), 200, 1024, 16);
  const Activations x = make_activations(24, 1024, 17);
  std::vector<float> first;
  for (int run = 0; run < 5; ++run) {
    DeviceVector<float> y(24 * 200);
    y.fill(0xff);
    matmul({.x = x.get(), .parts = {w.packed}, .n_parts = 1, .y = y.get(), .y_stride = 200}, 24, workspace_, profile_,
           nullptr);
    const std::vector<float> values = y.download();
    if (run == 0) first = values;
    ASSERT_EQ(values, first);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, MatmulTypes,
                         ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end()),
                         [](const auto& test) { return std::string(quant_name(test.param)); });

}  // namespace
}  // namespace spate::cuda::testing
