// The CPU's kernels other than its matrix products, each instruction set against the formula in double precision.
#include "backend/cpu/ops.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "backend/executor.h"
#include "backend/linear_isas.h"

namespace spate::cpu {
namespace {

class OpsTest : public ::testing::TestWithParam<Isa> {
 protected:
  const OpTable& ops() const { return op_table(GetParam()); }
  std::vector<float> random(size_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(n);
    for (float& value : values) value = normal(generator_);
    return values;
  }
  std::mt19937 generator_{7};
};

constexpr float kPoison = 1e30f;

TEST_P(OpsTest, RmsNorm_AnyLength_MatchesFormulaAndStaysInBounds) {
  for (int n : {1, 2, 15, 16, 17, 31, 33, 64, 100, 512, 896, 1536}) {
    const std::vector<float> x = random(n, 3), weight = random(n);
    std::vector<float> out(n + 16, kPoison);
    ops().rms_norm(x.data(), weight.data(), 1e-5f, n, out.data());
    double squares = 0;
    for (float v : x) squares += static_cast<double>(v) * v;
    const double scale = 1 / std::sqrt(squares / n + 1e-5);
    for (int i = 0; i < n; ++i)
      ASSERT_NEAR(out[i], x[i] * scale * weight[i], 2e-6 * (1 + std::abs(out[i]))) << "n " << n << " element " << i;
    for (int i = n; i < n + 16; ++i) ASSERT_EQ(out[i], kPoison) << "wrote past " << n;
  }
}

TEST_P(OpsTest, RmsNorm_InPlace_IsTheSame) {
  std::vector<float> x = random(70);
  const std::vector<float> weight = random(70);
  std::vector<float> out(70);
  ops().rms_norm(x.data(), weight.data(), 1e-6f, 70, out.data());
  ops().rms_norm(x.data(), weight.data(), 1e-6f, 70, x.data());
  EXPECT_EQ(x, out);
}

std::vector<float> cos_sin(const std::vector<double>& angles) {
  std::vector<float> table;
  for (double angle : angles) table.push_back(static_cast<float>(std::cos(angle)));
  for (double angle : angles) table.push_back(static_cast<float>(std::sin(angle)));
  return table;
}

TEST_P(OpsTest, Rope_BothStyles_RotateTheirPairs) {
  for (int rotary_dim : {2, 8, 10, 40, 64, 128}) {
    std::vector<double> angles;
    for (int i = 0; i < rotary_dim / 2; ++i) angles.push_back(0.3 * i + 0.1);
    const std::vector<float> table = cos_sin(angles);
    const std::vector<float> head = random(rotary_dim + 4);
    std::vector<float> norm = head, neox = head;
    ops().rope_norm(norm.data(), table.data(), rotary_dim);
    ops().rope_neox(neox.data(), table.data(), rotary_dim);
    for (int i = 0; i < rotary_dim / 2; ++i) {
      const double c = std::cos(angles[i]), s = std::sin(angles[i]);
      ASSERT_NEAR(norm[2 * i], head[2 * i] * c - head[2 * i + 1] * s, 1e-6);
      ASSERT_NEAR(norm[2 * i + 1], head[2 * i] * s + head[2 * i + 1] * c, 1e-6);
      const int j = i + rotary_dim / 2;
      ASSERT_NEAR(neox[i], head[i] * c - head[j] * s, 1e-6);
      ASSERT_NEAR(neox[j], head[i] * s + head[j] * c, 1e-6);
    }
    for (int i = rotary_dim; i < rotary_dim + 4; ++i) {  // elements that do not rotate
      ASSERT_EQ(norm[i], head[i]);
      ASSERT_EQ(neox[i], head[i]);
    }
  }
}

TEST_P(OpsTest, SiluMultiply_AnyLengthAndMagnitude_MatchesFormula) {
  for (int n : {1, 16, 17, 100}) {
    std::vector<float> gate = random(n, 10);
    gate[0] = -200;  // its exponential overflows float32
    const std::vector<float> up = random(n), original = gate;
    gate.push_back(kPoison);
    ops().silu_multiply(gate.data(), up.data(), n);
    for (int i = 0; i < n; ++i) {
      const double expected = original[i] / (1 + std::exp(-static_cast<double>(original[i]))) * up[i];
      ASSERT_NEAR(gate[i], expected, 1e-6 * (1 + std::abs(expected))) << i;
    }
    ASSERT_EQ(gate[n], kPoison);
  }
}

// A sequence's keys and values in pages, stored by the kernel, beside what they were rounded to.
struct Cache {
  Cache(const OpTable& ops, KvLayout kv_layout, int kv_len, const std::vector<float>& k, const std::vector<float>& v)
      : layout(kv_layout) {
    const int n_pages = (kv_len + kPageTokens - 1) / kPageTokens;
    // Pages in a scrambled order; memory that nothing has written reads as NaN.
    memory.assign(static_cast<size_t>(n_pages + 3) * layout.page_stride, 0x7e00);
    for (int i = 0; i < n_pages; ++i) pages.push_back((n_pages - i + 1));
    const int width = layout.n_kv_heads * layout.head_dim;
    for (int p = 0; p < kv_len; ++p)
      ops.store_kv(&k[p * width], &v[p * width], layout, &memory[pages[p / kPageTokens] * layout.page_stride],
                   p % kPageTokens);
  }
  KvLayout layout;
  std::vector<uint16_t> memory;
  std::vector<int32_t> pages;
};

struct AttentionCase {
  int n_kv_heads, gqa_group, head_dim, first_position, n_tokens;
};

// Rounds to float16's 11 bits of significand, so that the cache holds exactly what the formula sees.
float to_half_grid(float x) {
  int exponent;
  const float mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 11)), exponent - 11);
}

std::vector<double> expected_attention(const AttentionCase& c, float scale, const std::vector<float>& q,
                                       const std::vector<float>& k, const std::vector<float>& v) {
  const int width = c.n_kv_heads * c.head_dim, n_heads = c.n_kv_heads * c.gqa_group;
  std::vector<double> out(q.size());
  for (int t = 0; t < c.n_tokens; ++t)
    for (int h = 0; h < n_heads; ++h) {
      const int position = c.first_position + t, kv_head = h / c.gqa_group;
      const float* query = &q[(t * n_heads + h) * c.head_dim];
      std::vector<double> weights(position + 1);
      double maximum = -1e300, sum = 0;
      for (int p = 0; p <= position; ++p) {
        for (int d = 0; d < c.head_dim; ++d)
          weights[p] += static_cast<double>(query[d]) * k[p * width + kv_head * c.head_dim + d];
        maximum = std::max(maximum, weights[p] *= scale);
      }
      for (double& weight : weights) sum += weight = std::exp(weight - maximum);
      for (int d = 0; d < c.head_dim; ++d) {
        double value = 0;
        for (int p = 0; p <= position; ++p) value += weights[p] * v[p * width + kv_head * c.head_dim + d];
        out[(t * n_heads + h) * c.head_dim + d] = value / sum;
      }
    }
  return out;
}

class AttentionTest : public OpsTest {
 protected:
  static KvLayout layout_of(const AttentionCase& c) {
    KvLayout layout{.n_kv_heads = c.n_kv_heads, .head_dim = c.head_dim};
    layout.page_stride = layout.elems_per_page();
    return layout;
  }

  // Runs all KV heads; split: each unit of keys as an item of its own, then merged.
  std::vector<float> run(const AttentionCase& c, const Cache& cache, float scale, const std::vector<float>& q,
                         bool split) {
    const int stride = c.n_kv_heads * c.gqa_group * c.head_dim, n_queries = c.n_tokens * c.gqa_group;
    const int n_units = (c.first_position + c.n_tokens + kAttentionUnitTokens - 1) / kAttentionUnitTokens;
    std::vector<float> out(q.size(), kPoison), scratch(attention_scratch_elems(n_queries, c.head_dim));
    const size_t unit_elems = static_cast<size_t>(n_queries) * attention_state_elems(cache.layout.head_dim);
    std::vector<float> partials(unit_elems * n_units, kPoison);
    for (int head = 0; head < c.n_kv_heads; ++head) {
      const int64_t at = static_cast<int64_t>(head) * c.gqa_group * c.head_dim;
      AttentionItem item{.cache = cache.memory.data(),
                         .pages = cache.pages.data(),
                         .layout = cache.layout,
                         .kv_head = head,
                         .scale = scale,
                         .gqa_group = c.gqa_group,
                         .q = &q[at],
                         .q_stride = stride,
                         .out = &out[at],
                         .out_stride = stride,
                         .n_tokens = c.n_tokens,
                         .first_position = c.first_position,
                         .unit_begin = 0,
                         .unit_end = n_units,
                         .scratch = scratch.data()};
      if (!split) {
        ops().attend(item);
        continue;
      }
      for (int unit = 0; unit < n_units; ++unit) {
        item.unit_begin = unit;
        item.unit_end = unit + 1;
        item.partials = &partials[unit * unit_elems];
        ops().attend(item);
      }
      ops().merge_attention(item, partials.data(), n_units);
    }
    return out;
  }
};

constexpr AttentionCase kAttentionCases[] = {
    {1, 1, 8, 0, 1},     {1, 1, 64, 0, 1},   {2, 1, 64, 31, 1},   {2, 4, 64, 32, 1},   {2, 6, 128, 33, 1},
    {1, 7, 128, 100, 1}, {1, 8, 80, 511, 1}, {1, 3, 96, 512, 1},  {2, 2, 40, 1200, 1}, {2, 4, 64, 0, 33},
    {1, 5, 128, 20, 17}, {2, 1, 8, 5, 64},   {1, 2, 64, 500, 40}, {1, 4, 256, 60, 9},
};

TEST_P(AttentionTest, Attend_EveryShape_MatchesSoftmaxFormula) {
  for (const AttentionCase& c : kAttentionCases) {
    const int kv_len = c.first_position + c.n_tokens, width = c.n_kv_heads * c.head_dim;
    const std::vector<float> q = random(static_cast<size_t>(c.n_tokens) * width * c.gqa_group, 2);
    std::vector<float> k = random(static_cast<size_t>(kv_len) * width, 2),
                       v = random(static_cast<size_t>(kv_len) * width);
    for (float& x : k) x = to_half_grid(x);
    for (float& x : v) x = to_half_grid(x);
    const Cache cache(ops(), layout_of(c), kv_len, k, v);
    const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    const std::vector<double> expected = expected_attention(c, scale, q, k, v);
    const std::vector<float> actual = run(c, cache, scale, q, false);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(actual[i], expected[i], 1e-5)
          << "element " << i << " of heads " << c.n_kv_heads << "x" << c.gqa_group << ", head " << c.head_dim
          << ", position " << c.first_position << ", tokens " << c.n_tokens;
  }
}

TEST_P(AttentionTest, Attend_SplitOverKeysOrBlocksOfQueries_ChangesNoBit) {
  for (const AttentionCase& c : kAttentionCases) {
    const int kv_len = c.first_position + c.n_tokens, width = c.n_kv_heads * c.head_dim, q_width = width * c.gqa_group;
    const std::vector<float> q = random(static_cast<size_t>(c.n_tokens) * q_width, 2);
    const std::vector<float> k = random(static_cast<size_t>(kv_len) * width, 2),
                             v = random(static_cast<size_t>(kv_len) * width);
    const Cache cache(ops(), layout_of(c), kv_len, k, v);
    const std::vector<float> whole = run(c, cache, 0.1f, q, false);
    ASSERT_EQ(whole, run(c, cache, 0.1f, q, true)) << "split over keys, position " << c.first_position;
    for (int t = 0; t < c.n_tokens; ++t) {
      AttentionCase alone = c;
      alone.first_position += t;
      alone.n_tokens = 1;
      const std::vector<float> query(q.begin() + t * q_width, q.begin() + (t + 1) * q_width);
      const std::vector<float> row(whole.begin() + t * q_width, whole.begin() + (t + 1) * q_width);
      ASSERT_EQ(run(alone, cache, 0.1f, query, false), row) << "token " << t << " alone, position " << c.first_position;
    }
  }
}

TEST_P(AttentionTest, Attend_VectorInstructionSets_AgreeBitForBit) {
  if (GetParam() == Isa::kPortable) return;  // rounds fma twice
  const AttentionCase c{2, 3, 72, 600, 5};
  const int kv_len = c.first_position + c.n_tokens, width = c.n_kv_heads * c.head_dim;
  const std::vector<float> q = random(static_cast<size_t>(c.n_tokens) * width * c.gqa_group);
  const std::vector<float> k = random(static_cast<size_t>(kv_len) * width),
                           v = random(static_cast<size_t>(kv_len) * width);
  const Cache cache(ops(), layout_of(c), kv_len, k, v), avx2_cache(op_table(Isa::kAvx2), layout_of(c), kv_len, k, v);
  EXPECT_EQ(cache.memory, avx2_cache.memory);
  const std::vector<float> actual = run(c, cache, 0.1f, q, false);
  const OpTable& avx2 = op_table(Isa::kAvx2);
  std::vector<float> expected(q.size()), scratch(attention_scratch_elems(c.n_tokens * c.gqa_group, c.head_dim));
  for (int head = 0; head < c.n_kv_heads; ++head) {
    const int64_t at = static_cast<int64_t>(head) * c.gqa_group * c.head_dim;
    const int stride = width * c.gqa_group;
    avx2.attend({.cache = cache.memory.data(),
                 .pages = cache.pages.data(),
                 .layout = cache.layout,
                 .kv_head = head,
                 .scale = 0.1f,
                 .gqa_group = c.gqa_group,
                 .q = &q[at],
                 .q_stride = stride,
                 .out = &expected[at],
                 .out_stride = stride,
                 .n_tokens = c.n_tokens,
                 .first_position = c.first_position,
                 .unit_begin = 0,
                 .unit_end = 2,
                 .scratch = scratch.data()});
  }
  EXPECT_EQ(actual, expected);
  std::vector<float> norm(77), norm_avx2(77), silu = random(77), silu_avx2 = silu;
  const std::vector<float> x = random(77), w = random(77);
  ops().rms_norm(x.data(), w.data(), 1e-6f, 77, norm.data());
  avx2.rms_norm(x.data(), w.data(), 1e-6f, 77, norm_avx2.data());
  EXPECT_EQ(norm, norm_avx2);
  ops().silu_multiply(silu.data(), x.data(), 77);
  avx2.silu_multiply(silu_avx2.data(), x.data(), 77);
  EXPECT_EQ(silu, silu_avx2);
}

std::string isa_suffix(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}
INSTANTIATE_TEST_SUITE_P(EveryIsa, OpsTest, ::testing::ValuesIn(testing::runnable_isas()), isa_suffix);
INSTANTIATE_TEST_SUITE_P(EveryIsa, AttentionTest, ::testing::ValuesIn(testing::runnable_isas()), isa_suffix);

}  // namespace
}  // namespace spate::cpu
