// Decode attention right behind RoPE, as in a layer: by clusters, which ask for the new token's page before RoPE has
// written it (what lies there until then is NaN), against the kernel that waits. RoPE, and attention over pages that
// are there, have tests of their own against the formulas.
#include <gtest/gtest.h>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/ops.h"

#include "device_batch.h"
#include "kv_pages.h"

namespace spate::cuda::testing {
namespace {

// What one way of computing leaves behind.
struct Outcome {
  std::vector<uint16_t> out;     // [n_seqs + 1, out_stride]: a row more than there are tokens
  std::vector<std::byte> pages;  // all of the layer's pool
};

class NewTokenCase {
 public:
  // kv_len: with the new token.
  NewTokenCase(const AttentionShape& shape, const std::vector<int>& kv_len, const DeviceProfile& profile)
      : shape_(shape),
        kv_len_(kv_len),
        profile_(profile),
        n_seqs_(static_cast<int>(kv_len.size())),
        kv_(shape.kv_type, shape.n_kv_heads, shape.head_dim, kv_len, 5),
        width_((shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim),
        out_stride_(padded_cols(shape.n_heads * shape.head_dim)) {
    std::mt19937 random(23);
    std::vector<int> before = kv_len;  // what earlier steps have written
    for (int& len : before) --len;
    kv_.randomise(before, random);
    std::normal_distribution<float> normal;
    qkv_.resize(size_t(n_seqs_) * width_);
    for (float& x : qkv_) x = normal(random);
    for (int i = 0; i < shape.head_dim / 2; ++i)
      frequencies_.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / shape.head_dim)));
    for (int s = 0; s <= n_seqs_; ++s) q_start_.push_back(s);
    for (int s = 0; s < n_seqs_; ++s)
      batch_.places.push_back({.position = kv_len[s] - 1, .page_plus_1 = kv_.page(s, kv_len[s] - 1) + 1});
    batch_.tokens = batch_.from_row = std::vector<int32_t>(n_seqs_, 0);
    batch_.pages = kv_.pages;
  }

  // fixed_grid: as a captured graph would. The product is written by a kernel just before, under dependent launch, over
  // memory that is NaN.
  Outcome run(bool fixed_grid = false) {
    AttentionPlanner planner(shape_, profile_, n_seqs_, n_seqs_, *std::ranges::max_element(kv_len_));
    std::vector<AttentionItem> block(planner.work_bytes() / sizeof(AttentionItem) + 1);
    const std::span block_bytes(reinterpret_cast<std::byte*>(block.data()), size_t(planner.work_bytes()));
    AttentionGrid grid = planner.plan(q_start_, kv_len_, kv_.pages, block_bytes).grid;
    if (fixed_grid) grid = planner.decode_grid(n_seqs_);
    const AttentionScratchSize size = planner.scratch_size();
    const DeviceVector<AttentionItem> work(block);
    DeviceVector<float> decode_partials(size.decode_elems), prefill_partials(size.prefill_elems);
    DeviceVector<uint32_t> counters(size.n_counters);
    decode_partials.fill(0xff);
    counters.fill(0);
    const TestBatch batch(batch_);
    DeviceVector<std::byte> pages(kv_.bytes);
    const DeviceVector<float> source(qkv_), frequencies(frequencies_), ones(std::vector<float>(width_, 1.0f));
    DeviceVector<float> qkv(qkv_.size());
    DeviceVector<uint16_t> q(size_t(n_seqs_) * shape_.n_heads * shape_.head_dim);
    DeviceVector<uint16_t> normed(size_t(n_seqs_) * padded_cols(width_)), out((size_t(n_seqs_) + 1) * out_stride_);
    for (DeviceVector<uint16_t>* v : {&q, &out}) v->fill(0xff);
    qkv.fill(0xff);

    const KvLayer kv{pages.get(), kv_.page_bytes(), shape_.kv_type};
    rms_norm({.residual = source.get(),
              .weight = ones.get(),
              .gather = nullptr,
              .x = reinterpret_cast<__half*>(normed.get()),
              .hidden = qkv.get(),
              .d_model = width_,
              .epsilon = 1e-5f,
              .dependent_launch = profile_.dependent_launch},
             n_seqs_, nullptr);
    rope_and_write_kv({.raw = {.qkv = qkv.get(),
                               .frequencies = frequencies.get(),
                               .style = RopeStyle::kNeox,
                               .rotary_dim = shape_.head_dim},
                       .n_heads = shape_.n_heads,
                       .n_kv_heads = shape_.n_kv_heads,
                       .head_dim = shape_.head_dim,
                       .batch = batch.get(),
                       .kv = kv,
                       .q = reinterpret_cast<__half*>(q.get()),
                       .dependent_launch = profile_.dependent_launch},
                      n_seqs_, nullptr);
    attention({.q = reinterpret_cast<const __half*>(q.get()),
               .kv = kv,
               .batch = batch.get(),
               .work = planner.work_at(reinterpret_cast<const std::byte*>(work.get())),
               .scratch = {decode_partials.get(), prefill_partials.get(), counters.get()},
               .scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim)),
               .n_heads = shape_.n_heads,
               .n_kv_heads = shape_.n_kv_heads,
               .head_dim = shape_.head_dim,
               .out = reinterpret_cast<__half*>(out.get()),
               .dependent_launch = profile_.dependent_launch},
              grid, nullptr);
    SPATE_CUDA(cudaDeviceSynchronize(), "attention");
    for (const uint32_t counter : counters.download()) EXPECT_EQ(counter, 0u) << "a counter was left behind";
    return {out.download(), pages.download()};
  }

  // Clusters as `how` says against none. Both keep to attention_test.cc's tolerance.
  void check(const std::string& how) {
    profile_.has_clusters = false;
    const Outcome waiting = run();
    profile_.has_clusters = true;
    ASSERT_TRUE(profile_.tune(how).ok());
    const Outcome clusters = run(), captured = run(true);
    expect_written(clusters);
    ASSERT_EQ(clusters.out, captured.out);
    ASSERT_EQ(clusters.pages, waiting.pages);
    constexpr double kLargestValue = 6;  // of some 10^5 of unit variance
    for (size_t at = 0; at < size_t(n_seqs_) * out_stride_; ++at) {
      const float a = f16_to_f32(waiting.out[at]), b = f16_to_f32(clusters.out[at]);
      ASSERT_EQ(std::isnan(a), std::isnan(b));
      if (!std::isnan(a)) {
        ASSERT_NEAR(a, b, 0x1p-8 * kLargestValue) << "token " << at / out_stride_ << ", position " << at % out_stride_;
      }
    }
  }

 private:
  // The comparison must be one of numbers: outputs are finite, and the new tokens' rows are no longer as they were.
  void expect_written(const Outcome& result) const {
    for (int s = 0; s < n_seqs_; ++s)
      for (int k = 0; k < shape_.n_heads * shape_.head_dim; ++k)
        ASSERT_TRUE(std::isfinite(f16_to_f32(result.out[size_t(s) * out_stride_ + k_position(k)])))
            << "sequence " << s << ", column " << k;
    for (int s = 0; s < n_seqs_; ++s)
      for (int head = 0; head < shape_.n_kv_heads; ++head)
        for (int which = 0; which < 2; ++which) {
          bool changed = false;
          for (int d = 0; d < shape_.head_dim; ++d) {
            const int64_t at = kv_.offset(s, kv_len_[s] - 1, head, which, d);
            changed |= result.pages[at] != kv_.bytes[at];
          }
          ASSERT_TRUE(changed) << "sequence " << s << ", KV head " << head << (which == 0 ? ", key" : ", value");
        }
  }

  AttentionShape shape_;
  std::vector<int> kv_len_;
  DeviceProfile profile_;
  int n_seqs_;
  KvPages kv_;
  int width_;
  int64_t out_stride_;
  BatchVectors batch_;
  std::vector<int32_t> q_start_;
  std::vector<float> qkv_, frequencies_;
};

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

TEST_P(NewTokenTest, Clusters_SeeTheTokenThatIsJustBeingWritten) {
  if (!profile_.has_clusters) GTEST_SKIP() << "no clusters on " << profile_.name;
  // Where pages begin and end, and lengths that several warps share.
  std::vector<int> every_border = {1, 2, 31, 32, 33, 63, 64, 65, 257, 700}, many;
  for (int i = 0; i < 32; ++i) every_border.push_back(600 + i);
  for (int s = 0; s < 400; ++s) many.push_back(1 + s * 37 % 300);
  for (const char* how : {"attention_cluster=0", "attention_cluster=1", "attention_cluster=8"})
    for (const int dim : {64, 80, 128, 256}) {
      SCOPED_TRACE(fmt::format("{}, head size {}", how, dim));
      NewTokenCase(shape(4, 2, dim), every_border, profile_).check(how);
      NewTokenCase(shape(4, 2, dim), {4097}, profile_).check(how);
      if (dim == 64) NewTokenCase(shape(7, 4, dim), many, profile_).check(how);
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, NewTokenTest, ::testing::Values(KvType::kF16, KvType::kQ8_0, KvType::kFp8),
                         [](const auto& param) { return kv_name(param.param); });

}  // namespace
}  // namespace spate::cuda::testing
