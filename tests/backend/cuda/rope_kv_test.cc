// Bias, QK-norm, RoPE and the write to KV pages on the GPU, against the formulas in double precision.
#include <gtest/gtest.h>

#include "backend/cuda/ops.h"

#include "device_batch.h"
#include "kv_pages.h"

namespace spate::cuda::testing {
namespace {

struct Options {
  KvType type = KvType::kF16;
  RopeStyle style = RopeStyle::kNorm;
  int n_heads = 4, n_kv_heads = 2, head_dim = 64, rotary_dim = 64;
  bool bias = false, norm = false;
  float magnitude = 1;
  int first_position = 0;
  int n_prompt = 40;  // tokens of the second sequence
  int n_padding = 2;  // tokens at the end
  bool only_padding = false;
};

// Late positions have page lists far longer than the pool: only the pages at their ends are distinct.
constexpr int kPhysicalPages = 64;

class RopeCase {
 public:
  // Three sequences of 1, n_prompt and 3 tokens, and padding among them and at the end.
  explicit RopeCase(const Options& o)
      : o_(o),
        kv_(o.type, o.n_kv_heads, o.head_dim, ends(o), 3, kPhysicalPages),
        width_((o.n_heads + 2 * o.n_kv_heads) * o.head_dim) {
    const std::vector<int> counts = {1, o.n_prompt, 3};
    for (int s = 0; s < 3 && !o.only_padding; ++s) {
      for (int i = 0; i < counts[s]; ++i) add_token(s, ends(o)[s] - counts[s] + i);
      if (s == 0) add_padding({.position = 6});  // whatever it claims
    }
    for (int i = 0; i < o.n_padding; ++i) add_padding({});
    batch_.pages = kv_.pages;
    batch_.kv_len = ends(o);
    batch_.tokens = batch_.from_row = std::vector<int32_t>(n_tokens(), 0);
    std::mt19937 random(17);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, size_t n) {
      v.resize(n);
      for (float& x : v) x = 2 * normal(random);
    };
    fill(qkv_, size_t(n_tokens()) * width_);
    fill(bias_, width_);
    fill(q_norm_, o.head_dim);
    fill(k_norm_, o.head_dim);
    for (int i = 0; i < o.rotary_dim / 2; ++i)
      frequencies_.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / o.rotary_dim)));
    frequencies_.resize(std::max<size_t>(frequencies_.size(), 1));
  }

  void check() {
    const DeviceVector<float> qkv(qkv_), bias(bias_), q_norm(q_norm_), k_norm(k_norm_), frequencies(frequencies_);
    std::vector<std::byte> pool(kv_.page_bytes(), std::byte{0xff});  // page -1, which is nobody's
    pool.insert(pool.end(), kv_.bytes.begin(), kv_.bytes.end());
    DeviceVector<std::byte> pages(pool);
    DeviceVector<uint16_t> q(size_t(n_tokens()) * o_.n_heads * o_.head_dim);
    q.fill(0xff);
    const TestBatch batch(batch_);
    RopeKvArgs args{};
    args.raw = {.qkv = qkv.get(),
                .bias = o_.bias ? bias.get() : nullptr,
                .q_norm = o_.norm ? q_norm.get() : nullptr,
                .k_norm = o_.norm ? k_norm.get() : nullptr,
                .frequencies = frequencies.get(),
                .magnitude = o_.magnitude,
                .norm_epsilon = 1e-5f,
                .style = o_.style,
                .rotary_dim = o_.rotary_dim};
    args.n_heads = o_.n_heads;
    args.n_kv_heads = o_.n_kv_heads;
    args.head_dim = o_.head_dim;
    args.batch = batch.get();
    args.kv = {pages.get() + kv_.page_bytes(), kv_.page_bytes(), o_.type};
    args.q = reinterpret_cast<__half*>(q.get());
    args.dependent_launch = probe_device(0)->dependent_launch;
    rope_and_write_kv(args, n_tokens(), nullptr);
    SPATE_CUDA(cudaDeviceSynchronize(), "RoPE");
    const std::vector<uint16_t> got_q = q.download();
    pool = pages.download();
    for (int64_t at = 0; at < kv_.page_bytes(); ++at)
      ASSERT_EQ(pool[at], std::byte{0xff}) << "wrote byte " << at << " before the first page";
    kv_.bytes.assign(pool.begin() + kv_.page_bytes(), pool.end());
    untouched_ = std::vector<bool>(kv_.bytes.size(), true);
    for (int t = 0; t < n_tokens(); ++t) {
      const uint16_t* queries = &got_q[size_t(t) * o_.n_heads * o_.head_dim];
      if (seq_of_[t] < 0) {
        for (int at = 0; at < o_.n_heads * o_.head_dim; ++at)
          ASSERT_EQ(queries[at], 0xffff) << "token " << t << " is padding";
        continue;
      }
      for (int h = 0; h < o_.n_heads; ++h) check_query(queries + h * o_.head_dim, t, h);
      for (int h = 0; h < 2 * o_.n_kv_heads; ++h) check_kv(t, h % o_.n_kv_heads, h / o_.n_kv_heads);
    }
    for (size_t at = 0; at < untouched_.size(); ++at)
      if (untouched_[at]) {
        ASSERT_EQ(kv_.bytes[at], std::byte{0xff}) << "wrote byte " << at << ", which is nobody's";
      }
  }

 private:
  static std::vector<int> ends(const Options& o) {
    return {o.first_position + 1, o.first_position + o.n_prompt + 10, o.first_position + 34};
  }
  int n_tokens() const { return static_cast<int>(batch_.places.size()); }

  void add_token(int seq, int position) {
    batch_.places.push_back({.position = position, .page_plus_1 = kv_.page(seq, position) + 1});
    seq_of_.push_back(seq);
  }
  void add_padding(const TokenPlace& place) {
    batch_.places.push_back(place);
    seq_of_.push_back(-1);
  }

  struct Element {
    double value, magnitude;  // magnitude: of what was added up
  };
  // Head `index` of a token, of the queries, keys, then values.
  std::vector<Element> expected(int token, int index) const {
    std::vector<double> x(o_.head_dim);
    double squares = 0;
    for (int d = 0; d < o_.head_dim; ++d) {
      const int at = index * o_.head_dim + d;
      x[d] = qkv_[size_t(token) * width_ + at] + (o_.bias ? double{bias_[at]} : 0);
      squares += x[d] * x[d];
    }
    const bool is_value = index >= o_.n_heads + o_.n_kv_heads;
    if (o_.norm && !is_value)
      for (int d = 0; d < o_.head_dim; ++d)
        x[d] *= (index < o_.n_heads ? q_norm_[d] : k_norm_[d]) / std::sqrt(squares / o_.head_dim + 1e-5);
    std::vector<Element> out;
    for (const double v : x) out.push_back({v, std::abs(v)});
    for (int i = 0; i < o_.rotary_dim / 2 && !is_value; ++i) {
      const double angle = static_cast<double>(batch_.places[token].position) * frequencies_[i];
      const double c = std::cos(angle) * o_.magnitude, s = std::sin(angle) * o_.magnitude;
      const int a = o_.style == RopeStyle::kNorm ? 2 * i : i;
      const int b = o_.style == RopeStyle::kNorm ? 2 * i + 1 : i + o_.rotary_dim / 2;
      const double size = (std::abs(x[a]) + std::abs(x[b])) * o_.magnitude;
      out[a] = {x[a] * c - x[b] * s, size};
      out[b] = {x[a] * s + x[b] * c, size};
    }
    return out;
  }

  // Float32 arithmetic, and one rounding to float16 (subnormal below 2^-14).
  static double half_tolerance(const Element& e) { return 0x1p-11 * std::abs(e.value) + 1e-6 * e.magnitude + 0x1p-25; }

  void check_query(const uint16_t* got, int token, int head) const {
    const std::vector<Element> want = expected(token, head);
    for (int d = 0; d < o_.head_dim; ++d)
      ASSERT_NEAR(f16_to_f32(got[d]), want[d].value, half_tolerance(want[d]))
          << "token " << token << ", query head " << head << ", dimension " << d;
  }

  void check_kv(int token, int kv_head, int which) {
    const int seq = seq_of_[token], position = batch_.places[token].position;
    const std::vector<Element> want = expected(token, o_.n_heads + which * o_.n_kv_heads + kv_head);
    for (int d = 0; d < o_.head_dim; ++d) {
      double largest = 0;  // of the block
      for (int e = d / kKvBlock * kKvBlock; e < std::min(o_.head_dim, d / kKvBlock * kKvBlock + kKvBlock); ++e)
        largest = std::max(largest, std::abs(want[e].value));
      const double value = want[d].value;
      // q8_0: half a step of the largest / 127, and the scale's own rounding; E4M3: three bits of mantissa, 2^-9 at
      // least.
      const double tolerance = o_.type == KvType::kF16 ? half_tolerance(want[d])
                               : o_.type == KvType::kQ8_0
                                   ? 0.58 * largest / 127 + 0x1p-11 * std::abs(value)
                                   : 0x1p-4 * std::abs(value) + 0x1p-10 + 1e-6 * want[d].magnitude;
      ASSERT_NEAR(kv_.value(seq, position, kv_head, which, d), value, tolerance)
          << (which == 0 ? "key" : "value") << " of token " << token << ", head " << kv_head << ", dimension " << d;
      const int64_t at = kv_.offset(seq, position, kv_head, which, d);
      for (int byte = 0; byte < kv_elem_bytes(o_.type); ++byte) untouched_[at + byte] = false;
      if (o_.type != KvType::kQ8_0) continue;
      const int64_t scale = kv_.scale_offset(seq, position, kv_head, which, d);
      untouched_[scale] = untouched_[scale + 1] = false;
    }
  }

  Options o_;
  KvPages kv_;
  int width_;
  BatchVectors batch_;
  std::vector<int> seq_of_;  // [T] -1: padding
  std::vector<float> qkv_, bias_, q_norm_, k_norm_, frequencies_;
  std::vector<bool> untouched_;
};

class RopeKvTest : public ::testing::TestWithParam<KvType> {
 protected:
  void SetUp() override {
    const auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
  }
};

TEST_P(RopeKvTest, EveryHeadSizeAndStyle_MatchesFormula) {
  for (const int dim : {64, 80, 96, 128, 256})
    for (const RopeStyle style : {RopeStyle::kNorm, RopeStyle::kNeox})
      for (const int rotary : {dim, dim / 2, 0}) {
        SCOPED_TRACE(fmt::format("head size {}, {} rotary, style {}", dim, rotary, static_cast<int>(style)));
        RopeCase({.type = GetParam(), .style = style, .head_dim = dim, .rotary_dim = rotary}).check();
        if (HasFailure()) return;
      }
}

TEST_P(RopeKvTest, BiasNormAndMagnitude_ComeInTheirOrder) {
  for (const bool bias : {false, true})
    for (const bool norm : {false, true}) {
      SCOPED_TRACE(fmt::format("bias {}, norm {}", bias, norm));
      RopeCase({.type = GetParam(),
                .style = RopeStyle::kNeox,
                .head_dim = 128,
                .rotary_dim = 128,
                .bias = bias,
                .norm = norm,
                .magnitude = 1.25f})
          .check();
    }
}

TEST_P(RopeKvTest, OddNumbersOfHeads_AreAllWritten) {
  for (const int n_kv_heads : {1, 3})
    for (const int group : {1, 3, 7}) {
      SCOPED_TRACE(fmt::format("{} KV heads, group {}", n_kv_heads, group));
      RopeCase({.type = GetParam(), .n_heads = group * n_kv_heads, .n_kv_heads = n_kv_heads}).check();
    }
}

TEST_P(RopeKvTest, ManyTokens_AreAllWritten) {
  for (const int n_prompt : {59, 100, 300})
    for (const int group : {1, 3, 7}) {
      SCOPED_TRACE(fmt::format("a prompt of {} tokens, group {}", n_prompt, group));
      RopeCase(
          {.type = GetParam(), .n_heads = 3 * group, .n_kv_heads = 3, .bias = true, .norm = true, .n_prompt = n_prompt})
          .check();
    }
}

// As in a graph of a bucket that is larger than the batch: with few tokens and with so many that a warp has several
// heads, also where no token is real.
TEST_P(RopeKvTest, Padding_WritesNothing) {
  for (const int n_padding : {1, 60, 300})
    for (const RopeStyle style : {RopeStyle::kNorm, RopeStyle::kNeox}) {
      SCOPED_TRACE(fmt::format("{} tokens of padding, style {}", n_padding, static_cast<int>(style)));
      RopeCase({.type = GetParam(), .style = style, .norm = true, .n_padding = n_padding}).check();
      RopeCase({.type = GetParam(), .style = style, .n_padding = n_padding, .only_padding = true}).check();
    }
}

TEST_P(RopeKvTest, LatePositions_KeepTheirAngles) {
  RopeCase({.type = GetParam(), .n_heads = 1, .n_kv_heads = 1, .first_position = 1000000}).check();
}

INSTANTIATE_TEST_SUITE_P(Types, RopeKvTest, ::testing::Values(KvType::kF16, KvType::kQ8_0, KvType::kFp8),
                         [](const auto& param) { return kv_name(param.param); });

}  // namespace
}  // namespace spate::cuda::testing
