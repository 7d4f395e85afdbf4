// Queries, keys and values made of a product's sums at once (matmul_wide_heads.cuh), against the product and RoPE's
// kernel one after the other: the same bits, and nothing else written.
#include "backend/cuda/ops.h"

#include "device_batch.h"
#include "kv_pages.h"
#include "matmul_fixture.h"

namespace spate::cuda::testing {
namespace {

struct HeadOptions {
  KvType type = KvType::kF16;
  RopeStyle style = RopeStyle::kNorm;
  int n_heads = 4, n_kv_heads = 2, head_dim = 128, rotary_dim = 128;
  bool bias = false, norm = false, folded = false;
  int n_tokens = 16;
  int n_padding = 0;  // of these, at the end
  int n_cols = 1024;
};

// Sequences of one query each, with pages of their own; every fifth token is nobody's.
BatchVectors make_batch(const HeadOptions& o, const KvPages& kv) {
  BatchVectors batch;
  for (int t = 0; t < o.n_tokens; ++t) {
    batch.seq_of.push_back(t % 5 == 4 ? -1 : t);
    batch.positions.push_back(7 * t + 3);
  }
  batch.tokens = batch.from_row = std::vector<int32_t>(o.n_tokens, 0);
  batch.page_start = kv.page_start;
  batch.pages = kv.pages;
  batch.n_tokens_real = o.n_tokens - o.n_padding;
  return batch;
}
std::vector<int> lengths(const HeadOptions& o) {
  std::vector<int> lengths;
  for (int t = 0; t < o.n_tokens; ++t) lengths.push_back(7 * t + 4);
  return lengths;
}

std::vector<float> random_floats(size_t n, std::mt19937& random, float mean, float deviation) {
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

// What a step leaves for attention.
struct Made {
  std::vector<uint16_t> q;
  std::vector<std::byte> pages;
};

class WideHeadsTest : public MatmulFixture {
 protected:
  void SetUp() override {
    MatmulFixture::SetUp();
    if (IsSkipped()) return;
    if (profile_.wide_min_tokens == 0) GTEST_SKIP() << "no wgmma on " << profile_.name;
  }

  // Rows a CTA, and the most CTAs that share K.
  void cut(int warps_m, int cluster) {
    profile_.mma_warps_m = warps_m;
    profile_.mma_split_k = profile_.wide_cluster = cluster;
  }

  void make_matrices(const HeadOptions& o, QuantType first, QuantType second, std::span<const float> deviations = {}) {
    q_ = make_matrix(first, o.n_heads * o.head_dim, o.n_cols, 61, deviations);
    k_ = make_matrix(first, o.n_kv_heads * o.head_dim, o.n_cols, 62, deviations);
    v_ = make_matrix(second, o.n_kv_heads * o.head_dim, o.n_cols, 63, deviations);
  }

  // Both ways over the same inputs; `together`: whether the product is to make the heads.
  void compare(const HeadOptions& o, bool together = true) {
    std::mt19937 random(64);
    const KvPages kv(o.type, o.n_kv_heads, o.head_dim, lengths(o), 65);
    const TestBatch batch(make_batch(o, kv));
    const int width = (o.n_heads + 2 * o.n_kv_heads) * o.head_dim;
    const DeviceVector<float> bias(random_floats(width, random, 0, 1)),
        q_norm(random_floats(o.head_dim, random, 1, 0.3f)), k_norm(random_floats(o.head_dim, random, 1, 0.3f)),
        scale(std::vector<float>(o.n_tokens, 0.25f)), next_scale(o.n_tokens);
    std::vector<float> frequencies, squares(size_t(o.n_tokens) * squares_stride(o.n_cols), 0.0f);
    for (int i = 0; i < std::max(o.rotary_dim / 2, 1); ++i)
      frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / std::max(o.rotary_dim, 1))));
    for (float& sum : squares) sum = static_cast<float>(1 + random() % 64);
    const DeviceVector<float> frequencies_there(frequencies), squares_there(squares);
    const Activations x = make_activations(o.n_tokens, o.n_cols, 66);
    DeviceVector<float> y(size_t(o.n_tokens) * width);

    RopeKvArgs heads{};
    heads.raw = {.qkv = y.get(),
                 .bias = o.bias ? bias.get() : nullptr,
                 .q_norm = o.norm ? q_norm.get() : nullptr,
                 .k_norm = o.norm ? k_norm.get() : nullptr,
                 .frequencies = frequencies_there.get(),
                 .magnitude = 1.25f,
                 .norm_epsilon = 1e-5f,
                 .style = o.style,
                 .rotary_dim = o.rotary_dim};
    heads.n_heads = o.n_heads;
    heads.n_kv_heads = o.n_kv_heads;
    heads.head_dim = o.head_dim;
    heads.batch = batch.get();
    heads.dependent_launch = profile_.dependent_launch;
    MatmulArgs product{
        .x = x.get(), .parts = {q_.packed, k_.packed, v_.packed}, .n_parts = 3, .y = y.get(), .y_stride = width};
    if (o.folded)
      product.norm = {
          .squares = squares_there.get(), .scale = scale.get(), .next_scale = next_scale.get(), .epsilon = 1e-5f};
    const auto run = [&](bool at_once) {
      DeviceVector<uint16_t> q(size_t(o.n_tokens) * o.n_heads * o.head_dim);
      DeviceVector<std::byte> pages(kv.bytes);
      q.fill(0xff);
      y.fill(0xff);
      heads.kv = {.pages = pages.get(), .page_bytes = kv.page_bytes(), .type = o.type};
      heads.q = reinterpret_cast<__half*>(q.get());
      product.heads = at_once ? &heads : nullptr;
      const bool made = matmul(product, o.n_tokens, workspace_, profile_, nullptr);
      EXPECT_EQ(made, at_once && together);
      if (!made) rope_and_write_kv(heads, o.n_tokens, nullptr);
      SPATE_CUDA(cudaDeviceSynchronize(), "queries, keys and values");
      const std::vector<float> left = y.download();
      EXPECT_EQ(std::all_of(left.begin(), left.end(), [](float v) { return std::isnan(v); }), made)
          << "the product's rows are written where heads are not made of them, and nowhere else";
      return Made{q.download(), pages.download()};
    };
    const Made apart = run(false), at_once = run(true);
    const size_t row = size_t(o.n_heads) * o.head_dim;
    for (size_t i = 0; i < apart.q.size(); ++i)
      ASSERT_EQ(at_once.q[i], apart.q[i])
          << "token " << i / row << ", query head " << i % row / o.head_dim << ", dimension " << i % o.head_dim;
    for (size_t i = 0; i < apart.pages.size(); ++i)
      ASSERT_EQ(at_once.pages[i], apart.pages[i])
          << "byte " << i % kv.page_bytes() << " of page " << i / kv.page_bytes();
    expect_padding_untouched(o, apart, row);
  }

  // That the comparison sees what it is for: heads of real tokens and of padding.
  static void expect_padding_untouched(const HeadOptions& o, const Made& made, size_t row) {
    for (int t = 0; t < o.n_tokens; ++t) {
      const bool padding = t % 5 == 4 || t >= o.n_tokens - o.n_padding;
      EXPECT_EQ(std::all_of(&made.q[t * row], &made.q[t * row] + row, [](uint16_t v) { return v == 0xffff; }), padding)
          << "token " << t;
    }
  }

  Matrix q_{}, k_{}, v_{};
};

class WideHeadsOfTypes : public WideHeadsTest, public ::testing::WithParamInterface<KvType> {};

TEST_P(WideHeadsOfTypes, EveryTokenCount_HasTheBitsOfTwoKernels) {
  HeadOptions o{.type = GetParam()};
  make_matrices(o, QuantType::kQ4_K, QuantType::kQ4_K);
  for (const int warps_m : {8, 16})
    for (const int cluster : {1, 2, 4})
      for (const int n_tokens : {9, 16, 33, 64}) {
        SCOPED_TRACE(::testing::Message()
                     << n_tokens << " tokens, " << warps_m << " panels a CTA, clusters of " << cluster);
        cut(warps_m, cluster);
        o.n_tokens = n_tokens;
        o.folded = cluster == 2;
        ASSERT_NO_FATAL_FAILURE(compare(o));
      }
}

TEST_P(WideHeadsOfTypes, ValuesOfAnotherType_HaveTheBitsOfTwoKernels) {
  // Queries and keys end within a CTA of 256 rows: between them and the values lie slots without panels.
  HeadOptions o{.type = GetParam(), .n_heads = 4, .n_kv_heads = 1, .bias = true, .folded = true};
  make_matrices(o, QuantType::kQ4_K, QuantType::kQ6_K);
  for (const int warps_m : {8, 16})
    for (const int n_tokens : {9, 33, 64}) {
      SCOPED_TRACE(::testing::Message() << n_tokens << " tokens, " << warps_m << " panels a CTA");
      cut(warps_m, 2);
      o.n_tokens = n_tokens;
      ASSERT_NO_FATAL_FAILURE(compare(o));
    }
}

INSTANTIATE_TEST_SUITE_P(Kv, WideHeadsOfTypes, ::testing::Values(KvType::kF16, KvType::kQ8_0, KvType::kFp8),
                         [](const auto& param) { return kv_name(param.param); });

TEST_F(WideHeadsTest, HeadSizesAndStyles_HaveTheBitsOfTwoKernels) {
  for (const int head_dim : {16, 32, 64, 128}) {
    HeadOptions o{.n_heads = 5, .n_kv_heads = 3, .head_dim = head_dim, .n_tokens = 20, .n_cols = 512};
    make_matrices(o, QuantType::kQ4_K, QuantType::kQ4_K);
    for (const int warps_m : {4, 16})
      for (const RopeStyle style : {RopeStyle::kNorm, RopeStyle::kNeox})
        for (const int rotary : {head_dim, head_dim / 2, 0}) {
          if (warps_m * kTileRows < head_dim) continue;
          SCOPED_TRACE(::testing::Message() << "heads of " << head_dim << ", " << rotary << " rotary, style "
                                            << static_cast<int>(style) << ", " << warps_m << " panels a CTA");
          cut(warps_m, 2);
          o.style = style;
          o.rotary_dim = rotary;
          ASSERT_NO_FATAL_FAILURE(compare(o));
        }
  }
}

TEST_F(WideHeadsTest, BiasNormAndRowFactors_HaveTheBitsOfTwoKernels) {
  HeadOptions o{.style = RopeStyle::kNeox, .folded = true, .n_tokens = 24, .n_cols = 512};
  const float deviations[] = {0.05f, 0.05f, 2e-5f, 0.05f, 3.0f};
  make_matrices(o, QuantType::kQ4_K, QuantType::kQ4_K, deviations);
  ASSERT_NE(q_.packed.row_factors, nullptr);
  cut(16, 2);
  for (const bool bias : {false, true})
    for (const bool norm : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "bias " << bias << ", norm " << norm);
      o.bias = bias;
      o.norm = norm;
      ASSERT_NO_FATAL_FAILURE(compare(o));
    }
}

TEST_F(WideHeadsTest, PaddingAtTheEnd_IsLeftAlone) {
  HeadOptions o{.n_padding = 7, .n_cols = 512};
  make_matrices(o, QuantType::kQ4_K, QuantType::kQ4_K);
  for (const int cluster : {1, 2})
    for (const int n_tokens : {9, 16, 64}) {
      SCOPED_TRACE(::testing::Message() << n_tokens << " tokens, clusters of " << cluster);
      cut(16, cluster);
      o.n_tokens = n_tokens;
      ASSERT_NO_FATAL_FAILURE(compare(o));
    }
}

// Heads that would lie in two CTAs, and more tokens than a CTA makes heads of.
TEST_F(WideHeadsTest, WhatDoesNotFit_IsLeftToTheOtherKernel) {
  for (const auto& [head_dim, warps_m] : {std::pair(80, 16), std::pair(96, 16), std::pair(128, 4)}) {
    SCOPED_TRACE(::testing::Message() << "heads of " << head_dim << ", " << warps_m << " panels a CTA");
    HeadOptions o{.head_dim = head_dim, .rotary_dim = head_dim, .n_cols = 512};
    make_matrices(o, QuantType::kQ4_K, QuantType::kQ4_K);
    cut(warps_m, 1);
    ASSERT_NO_FATAL_FAILURE(compare(o, false));
  }
  HeadOptions few{.n_tokens = 4, .n_cols = 512};
  make_matrices(few, QuantType::kQ4_K, QuantType::kQ4_K);
  ASSERT_NO_FATAL_FAILURE(compare(few, false));
}

}  // namespace
}  // namespace spate::cuda::testing
