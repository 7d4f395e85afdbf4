// Decode attention that makes queries, keys and values itself, against RoPE and attention one after the other: the same
// bits, in the output and in every page. Those two have tests of their own against the formulas.
#include <gtest/gtest.h>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/ops.h"

#include "device_batch.h"
#include "kv_pages.h"

namespace spate::cuda::testing {
namespace {

struct Options {
  AttentionShape shape;
  std::vector<int> kv_len;  // with the new token
  RopeStyle style = RopeStyle::kNeox;
  int rotary_dim = -1;  // of the head size; -1: all
  bool bias = false, norm = false;
  float magnitude = 1;
};

// What one way of computing leaves behind.
struct Outcome {
  std::vector<uint16_t> out;     // [n_seqs + 1, out_stride]: a row more than there are tokens
  std::vector<std::byte> pages;  // all of the layer's pool
};

class NewTokenCase {
 public:
  NewTokenCase(const Options& o, const DeviceProfile& profile)
      : o_(o),
        profile_(profile),
        n_seqs_(static_cast<int>(o.kv_len.size())),
        kv_(o.shape.kv_type, o.shape.n_kv_heads, o.shape.head_dim, o.kv_len, 5),
        width_((o.shape.n_heads + 2 * o.shape.n_kv_heads) * o.shape.head_dim),
        out_stride_(padded_cols(o.shape.n_heads * o.shape.head_dim)) {
    std::mt19937 random(23);
    std::vector<int> before = o.kv_len;  // what earlier steps have written
    for (int& len : before) --len;
    kv_.randomise(before, random);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, size_t n) {
      v.resize(n);
      for (float& x : v) x = normal(random);
    };
    fill(qkv_, size_t(n_seqs_) * width_);
    fill(bias_, width_);
    fill(q_norm_, o.shape.head_dim);
    fill(k_norm_, o.shape.head_dim);
    rotary_dim_ = o.rotary_dim < 0 ? o.shape.head_dim : o.rotary_dim;
    for (int i = 0; i < std::max(1, rotary_dim_ / 2); ++i)
      frequencies_.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / std::max(1, rotary_dim_))));
    for (int s = 0; s <= n_seqs_; ++s) q_start_.push_back(s);
    for (int s = 0; s < n_seqs_; ++s) {
      batch_.seq_of.push_back(s);
      batch_.positions.push_back(o.kv_len[s] - 1);
    }
    batch_.tokens = batch_.from_row = std::vector<int32_t>(n_seqs_, 0);
    batch_.page_start = kv_.page_start;
    batch_.pages = kv_.pages;
    batch_.n_tokens_real = n_seqs_;
  }

  // fixed_grid: as a captured graph would. The product is written by a kernel just before, under dependent launch, over
  // memory that is NaN.
  Outcome run(bool fused, bool fixed_grid = false) {
    AttentionPlanner planner(o_.shape, profile_, n_seqs_, n_seqs_, *std::ranges::max_element(o_.kv_len));
    std::vector<AttentionItem> block(planner.work_bytes() / sizeof(AttentionItem) + 1);
    const std::span block_bytes(reinterpret_cast<std::byte*>(block.data()), size_t(planner.work_bytes()));
    AttentionGrid grid = planner.plan(q_start_, o_.kv_len, kv_.pages, block_bytes).grid;
    EXPECT_TRUE(grid.one_query);
    n_parts_ = largest_part_count(planner, block);
    if (fixed_grid) grid = planner.decode_grid(n_seqs_);
    const AttentionScratchSize size = planner.scratch_size();
    const DeviceVector<AttentionItem> work(block);
    DeviceVector<float> decode_partials(size.decode_elems), prefill_partials(size.prefill_elems);
    DeviceVector<uint32_t> counters(size.n_counters);
    decode_partials.fill(0xff);
    counters.fill(0);
    const TestBatch batch(batch_);
    DeviceVector<std::byte> pages(kv_.bytes);
    const DeviceVector<float> bias(bias_), q_norm(q_norm_), k_norm(k_norm_), frequencies(frequencies_);
    const DeviceVector<float> source(qkv_), ones(std::vector<float>(width_, 1.0f));
    DeviceVector<float> qkv(qkv_.size());
    DeviceVector<uint16_t> q(size_t(n_seqs_) * o_.shape.n_heads * o_.shape.head_dim);
    DeviceVector<uint16_t> normed(size_t(n_seqs_) * padded_cols(width_)), out((size_t(n_seqs_) + 1) * out_stride_);
    for (DeviceVector<uint16_t>* v : {&q, &out}) v->fill(0xff);
    qkv.fill(0xff);

    const RawHeads raw{.qkv = qkv.get(),
                       .bias = o_.bias ? bias.get() : nullptr,
                       .q_norm = o_.norm ? q_norm.get() : nullptr,
                       .k_norm = o_.norm ? k_norm.get() : nullptr,
                       .frequencies = frequencies.get(),
                       .magnitude = o_.magnitude,
                       .norm_epsilon = 1e-5f,
                       .style = o_.style,
                       .rotary_dim = rotary_dim_};
    const KvLayer kv{pages.get(), kv_.page_bytes(), o_.shape.kv_type};
    rms_norm({.residual = source.get(),
              .weight = ones.get(),
              .gather = nullptr,
              .x = reinterpret_cast<__half*>(normed.get()),
              .hidden = qkv.get(),
              .d_model = width_,
              .epsilon = 1e-5f,
              .dependent_launch = profile_.dependent_launch},
             n_seqs_, nullptr);
    if (!fused)
      rope_and_write_kv({.raw = raw,
                         .n_heads = o_.shape.n_heads,
                         .n_kv_heads = o_.shape.n_kv_heads,
                         .head_dim = o_.shape.head_dim,
                         .batch = batch.get(),
                         .kv = kv,
                         .q = reinterpret_cast<__half*>(q.get()),
                         .dependent_launch = profile_.dependent_launch},
                        n_seqs_, nullptr);
    attention({.q = fused ? nullptr : reinterpret_cast<const __half*>(q.get()),
               .raw = raw,
               .kv = kv,
               .batch = batch.get(),
               .work = planner.work_at(reinterpret_cast<const std::byte*>(work.get())),
               .scratch = {decode_partials.get(), prefill_partials.get(), counters.get()},
               .scale = 1 / std::sqrt(static_cast<float>(o_.shape.head_dim)),
               .n_heads = o_.shape.n_heads,
               .n_kv_heads = o_.shape.n_kv_heads,
               .head_dim = o_.shape.head_dim,
               .out = reinterpret_cast<__half*>(out.get()),
               .dependent_launch = profile_.dependent_launch},
              grid, nullptr);
    SPATE_CUDA(cudaDeviceSynchronize(), "attention");
    for (const uint32_t counter : counters.download()) EXPECT_EQ(counter, 0u) << "a counter was left behind";
    return {out.download(), pages.download()};
  }

  // Both ways, compared bit by bit.
  void check() {
    const Outcome apart = run(false), fused = run(true), captured = run(true, true);
    expect_written(apart);
    expect_same(fused, apart, "fused");
    expect_same(captured, apart, "fused, on a captured grid");
  }

  // RoPE, then attention by clusters, which ask for the new token's page before RoPE has written it (what lies there
  // until then is NaN), against attention without. Both keep to attention_test.cc's tolerance.
  void check_clusters(const std::string& how) {
    const Outcome apart = run(false);
    ASSERT_TRUE(profile_.tune(how).ok());
    const Outcome clusters = run(false), captured = run(false, true);
    expect_written(clusters);
    ASSERT_EQ(clusters.out, captured.out);
    ASSERT_EQ(clusters.pages, apart.pages);
    constexpr double kLargestValue = 6;  // of some 10^5 of unit variance; biases and norms are left out
    for (size_t at = 0; at < size_t(n_seqs_) * out_stride_; ++at) {
      const float a = f16_to_f32(apart.out[at]), b = f16_to_f32(clusters.out[at]);
      ASSERT_EQ(std::isnan(a), std::isnan(b));
      if (!std::isnan(a)) {
        ASSERT_NEAR(a, b, 0x1p-8 * kLargestValue) << "token " << at / out_stride_ << ", position " << at % out_stride_;
      }
    }
  }

  int n_parts() const { return n_parts_; }

 private:
  static int largest_part_count(const AttentionPlanner& planner, const std::vector<AttentionItem>& block) {
    const AttentionWork work = planner.work_at(reinterpret_cast<const std::byte*>(block.data()));
    int most = 0;
    for (int i = 0; i < work.cta_start[work.decode_ctas]; ++i) most = std::max<int>(most, work.items[i].n_parts);
    return most;
  }

  // The comparison must be one of numbers: outputs are finite, and the new tokens' rows are no longer as they were.
  void expect_written(const Outcome& result) const {
    for (int s = 0; s < n_seqs_; ++s)
      for (int k = 0; k < o_.shape.n_heads * o_.shape.head_dim; ++k)
        ASSERT_TRUE(std::isfinite(f16_to_f32(result.out[size_t(s) * out_stride_ + k_position(k)])))
            << "sequence " << s << ", column " << k;
    for (int s = 0; s < n_seqs_; ++s)
      for (int head = 0; head < o_.shape.n_kv_heads; ++head)
        for (int which = 0; which < 2; ++which) {
          bool changed = false;
          for (int d = 0; d < o_.shape.head_dim; ++d) {
            const int64_t at = kv_.offset(s, o_.kv_len[s] - 1, head, which, d);
            changed |= result.pages[at] != kv_.bytes[at];
          }
          ASSERT_TRUE(changed) << "sequence " << s << ", KV head " << head << (which == 0 ? ", key" : ", value");
        }
  }

  void expect_same(const Outcome& actual, const Outcome& expected, const char* what) const {
    for (size_t at = 0; at < expected.out.size(); ++at)
      ASSERT_EQ(actual.out[at], expected.out[at])
          << what << ": token " << at / out_stride_ << ", position " << at % out_stride_;
    for (size_t at = 0; at < expected.pages.size(); ++at)
      ASSERT_EQ(actual.pages[at], expected.pages[at])
          << what << ": byte " << at % kv_.page_bytes() << " of page " << at / kv_.page_bytes();
  }

  Options o_;
  DeviceProfile profile_;
  int n_seqs_;
  KvPages kv_;
  int width_, rotary_dim_ = 0;
  int64_t out_stride_;
  int n_parts_ = 0;
  BatchVectors batch_;
  std::vector<int32_t> q_start_;
  std::vector<float> qkv_, bias_, q_norm_, k_norm_, frequencies_;
};

// Where pages begin and end, and lengths that several warps share.
const std::vector<int> kLengths = {1, 2, 31, 32, 33, 63, 64, 65, 257, 700};

class NewTokenTest : public ::testing::TestWithParam<KvType> {
 protected:
  void SetUp() override {
    const auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
    profile_ = *probed;
  }
  AttentionShape shape(int group, int n_kv_heads, int head_dim) const {
    return {group * n_kv_heads, n_kv_heads, head_dim, GetParam()};
  }
  DeviceProfile profile_;
};

TEST_P(NewTokenTest, EveryGroupAndHeadSize_SameBitsAsApart) {
  for (const int dim : {64, 80, 96, 128, 256})
    for (const int group : {1, 3, 4, 7, 8, 9, 16}) {
      SCOPED_TRACE(fmt::format("group {}, head size {}", group, dim));
      NewTokenCase({.shape = shape(group, 2, dim), .kv_len = kLengths}, profile_).check();
      if (HasFailure()) return;
    }
}

TEST_P(NewTokenTest, EveryStyleBiasAndNorm_SameBitsAsApart) {
  for (const int dim : {64, 80, 128, 256})
    for (const RopeStyle style : {RopeStyle::kNorm, RopeStyle::kNeox})
      for (const int rotary : {dim, dim / 2, 0})
        for (const bool bias : {false, true})
          for (const bool norm : {false, true}) {
            SCOPED_TRACE(fmt::format("head size {}, style {}, {} rotary, bias {}, norm {}", dim,
                                     static_cast<int>(style), rotary, bias, norm));
            NewTokenCase({.shape = shape(4, 1, dim),
                          .kv_len = {1, 32, 33, 100},
                          .style = style,
                          .rotary_dim = rotary,
                          .bias = bias,
                          .norm = norm,
                          .magnitude = 1.25f},
                         profile_)
                .check();
            if (HasFailure()) return;
          }
}

TEST_P(NewTokenTest, EveryLengthAroundPageBorders_SameBitsAsApart) {
  for (int first = 1; first <= 8 * kPageTokens + 1; first += 8) {
    std::vector<int> lengths;
    for (int i = 0; i < 8; ++i) lengths.push_back(first + i);
    SCOPED_TRACE(fmt::format("lengths from {} on", first));
    NewTokenCase({.shape = shape(4, 2, 64), .kv_len = lengths, .bias = true}, profile_).check();
    if (HasFailure()) return;
  }
}

// A part that does not hold the last page makes the queries alone; the last may hold that page and nothing else.
TEST_P(NewTokenTest, SplitSequences_SameBitsAsApart) {
  for (const int split_pages : {0, 1, 2, 5, 9}) {
    profile_.attention_split_pages = split_pages;
    for (const int len : {1023, 1024, 1025, 1056, 4097}) {
      SCOPED_TRACE(fmt::format("{} tokens in parts of {} pages", len, split_pages));
      NewTokenCase c({.shape = shape(4, 2, 128), .kv_len = {len, 40, len + 1}, .norm = true}, profile_);
      c.check();
      EXPECT_TRUE(c.n_parts() > 1 || (split_pages == 0 && len < 4096)) << "no sequence was split";
      if (HasFailure()) return;
    }
  }
}

// More items than CTAs: each goes through several, with the next one's heads on their way.
TEST_P(NewTokenTest, ManySequences_SameBitsAsApart) {
  for (const int dim : {128, 256}) {
    std::vector<int> lengths;
    for (int s = 0; s < 100; ++s) lengths.push_back(1 + s * 37 % 300);
    NewTokenCase({.shape = shape(4, 8, dim), .kv_len = lengths, .bias = true, .norm = true}, profile_).check();
  }
}

TEST_P(NewTokenTest, FewerWarpsThanHeads_SameBitsAsApart) {
  for (const int warps : {1, 2, 3, 5}) {
    SCOPED_TRACE(fmt::format("{} warps", warps));
    profile_.attention_decode_warps = warps;
    NewTokenCase({.shape = shape(7, 2, 64), .kv_len = kLengths, .bias = true, .norm = true}, profile_).check();
    if (HasFailure()) return;
  }
}

TEST_P(NewTokenTest, Clusters_SeeTheTokenThatIsJustBeingWritten) {
  if (!profile_.tune("attention_cluster=1").ok()) GTEST_SKIP() << "no clusters";
  profile_.attention_cluster = 0;
  std::vector<int> every_border = kLengths, many;
  for (int i = 0; i < 32; ++i) every_border.push_back(600 + i);
  for (int s = 0; s < 400; ++s) many.push_back(1 + s * 37 % 300);
  for (const char* how : {"attention_cluster=1", "attention_cluster=4", "attention_cluster=8"})
    for (const int dim : {64, 80, 128, 256}) {
      SCOPED_TRACE(fmt::format("{}, head size {}", how, dim));
      NewTokenCase({.shape = shape(4, 2, dim), .kv_len = every_border}, profile_).check_clusters(how);
      NewTokenCase({.shape = shape(4, 2, dim), .kv_len = {4097}}, profile_).check_clusters(how);
      if (dim == 64) NewTokenCase({.shape = shape(7, 4, dim), .kv_len = many}, profile_).check_clusters(how);
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, NewTokenTest, ::testing::Values(KvType::kF16, KvType::kQ8_0, KvType::kFp8),
                         [](const auto& param) { return kv_name(param.param); });

}  // namespace
}  // namespace spate::cuda::testing
