// Attention on the GPU against softmax(scale q k^T) v in double precision, of the very numbers that the kernel gets.
//
// Tolerance, relative to the largest |v|: a weight is rounded to float16 (2^-11 of itself, and weights sum to one), the
// result once more (2^-11); weights below 2^-14 of the largest lose up to 2^-25 each, 2^-13 for 4,097 of them in the
// worst case. Scores in float32 and 2^x to 2^-22 add less than 2^-16. Together below 2^-9.9; 2^-9 is asked for.
#include <gtest/gtest.h>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/ops.h"

#include "device_vector.h"
#include "kv_pages.h"

namespace spate::cuda::testing {
namespace {

constexpr double kTolerance = 0x1p-9;

struct Sequence {
  int n_q, kv_len;
};

// A step's attention: inputs, the launch, the reference.
class AttentionCase {
 public:
  AttentionCase(const AttentionShape& shape, const std::vector<Sequence>& sequences, uint32_t seed,
                const DeviceProfile& profile)
      : shape_(shape),
        sequences_(sequences),
        profile_(profile),
        kv_len_(lengths(sequences)),
        kv_(shape.kv_type, shape.n_kv_heads, shape.head_dim, kv_len_, seed) {
    for (const Sequence& s : sequences) q_start_.push_back(q_start_.back() + s.n_q);
    std::mt19937 kv_random(seed), random(seed + 1);  // the first sequence has the same data whatever follows it
    kv_.randomise(kv_len_, kv_random);
    std::normal_distribution<float> normal;
    q_.resize(size_t(n_tokens()) * shape.n_heads * shape.head_dim);
    // Some heads have sharp softmaxes: their scores reach far from zero.
    for (size_t i = 0; i < q_.size(); ++i)
      q_[i] = f32_to_f16(normal(random) * (i / shape.head_dim % 3 == 0 ? 6.0f : 1.0f));
    out_stride_ = padded_cols(shape.n_heads * shape.head_dim);
  }

  int n_tokens() const { return q_start_.back(); }
  int n_seqs() const { return static_cast<int>(sequences_.size()); }

  AttentionPlanner planner() const {
    return AttentionPlanner(shape_, profile_, n_seqs(), n_tokens(), *std::max_element(kv_len_.begin(), kv_len_.end()));
  }

  // Launches `times` times, on scratch memory that is NaN but for its counters, and returns the last output,
  // [n_tokens + 1, out_stride] of float16 bits: a row more than there are tokens. fixed_grid: as a captured graph
  // would.
  std::vector<uint16_t> run(bool fixed_grid = false, int times = 1) {
    AttentionPlanner planner = this->planner();
    std::vector<AttentionItem> block(planner.work_bytes() / sizeof(AttentionItem) + 1);
    const std::span block_bytes(reinterpret_cast<std::byte*>(block.data()), size_t(planner.work_bytes()));
    const AttentionPlanner::Planned planned = planner.plan(q_start_, kv_len_, kv_.pages, block_bytes);
    grid_ = planned.grid;
    if (fixed_grid) {
      const AttentionGrid grid = planner.decode_grid(n_seqs());
      EXPECT_TRUE(grid.covers(grid_));
      grid_ = grid;
    }
    const AttentionScratchSize size = planner.scratch_size();
    DeviceVector<AttentionItem> work(block);
    DeviceVector<float> decode_partials(size.decode_elems), prefill_partials(size.prefill_elems);
    DeviceVector<uint32_t> counters(size.n_counters);
    decode_partials.fill(0xff);
    prefill_partials.fill(0xff);
    counters.fill(0);
    const DeviceVector<int32_t> pages(kv_.pages);
    const DeviceVector<std::byte> kv(kv_.bytes);
    const DeviceVector<uint16_t> q(q_);
    DeviceVector<uint16_t> out((size_t(n_tokens()) + 1) * out_stride_);
    out.fill(0xff);
    AttentionArgs args{};
    args.q = reinterpret_cast<const __half*>(q.get());
    args.kv = {kv.get(), kv_.page_bytes(), shape_.kv_type};
    args.batch.pages = pages.get();
    args.work = planner.work_at(reinterpret_cast<const std::byte*>(work.get()));
    args.scratch = {decode_partials.get(), prefill_partials.get(), counters.get()};
    args.scale = scale();
    args.n_heads = shape_.n_heads;
    args.n_kv_heads = shape_.n_kv_heads;
    args.head_dim = shape_.head_dim;
    args.out = reinterpret_cast<__half*>(out.get());
    args.dependent_launch = profile_.dependent_launch;
    for (int i = 0; i < times; ++i) attention(args, grid_, nullptr);
    SPATE_CUDA(cudaDeviceSynchronize(), "attention");
    for (const uint32_t counter : counters.download()) EXPECT_EQ(counter, 0u) << "a counter was left behind";
    return out.download();
  }

  // Row of the output as float: element d of head h of token t.
  float output(const std::vector<uint16_t>& out, int token, int head, int d) const {
    return f16_to_f32(out[size_t(token) * out_stride_ + k_position(head * shape_.head_dim + d)]);
  }

  // Compares every element; what no element maps to must still be NaN.
  void check(const std::vector<uint16_t>& out) const {
    double worst = -1;
    std::string worst_at;
    for (int s = 0; s < n_seqs(); ++s)
      for (int t = 0; t < sequences_[s].n_q; ++t)
        for (int h = 0; h < shape_.n_heads; ++h) {
          double largest_v = 0;
          const std::vector<double> expected = reference(s, t, h, &largest_v);
          for (int d = 0; d < shape_.head_dim; ++d) {
            const float got = output(out, q_start_[s] + t, h, d);
            const double error = std::abs(got - expected[d]) / largest_v;
            if (!(error <= worst) && !(worst_at.size() && std::isnan(worst))) {
              worst = error;
              worst_at = fmt::format("sequence {} (length {}, {} queries), query {}, head {}, dimension {}: {} for {}",
                                     s, sequences_[s].kv_len, sequences_[s].n_q, t, h, d, got, expected[d]);
            }
          }
        }
    EXPECT_LE(worst, kTolerance) << worst_at;
    std::vector<bool> written(out_stride_, false);
    for (int k = 0; k < shape_.n_heads * shape_.head_dim; ++k) written[k_position(k)] = true;
    for (int t = 0; t <= n_tokens(); ++t)
      for (int64_t at = 0; at < out_stride_; ++at)
        if (t == n_tokens() || !written[at]) {
          ASSERT_EQ(out[t * out_stride_ + at], 0xffff) << "token " << t << ", position " << at;
        }
  }

 private:
  static std::vector<int> lengths(const std::vector<Sequence>& sequences) {
    std::vector<int> result;
    for (const Sequence& s : sequences) result.push_back(s.kv_len);
    return result;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(shape_.head_dim)); }

  std::vector<double> reference(int s, int t, int h, double* largest_v) const {
    const int seen = sequences_[s].kv_len - sequences_[s].n_q + t + 1, kv_head = h / shape_.group();
    const uint16_t* q = &q_[(size_t(q_start_[s] + t) * shape_.n_heads + h) * shape_.head_dim];
    std::vector<double> weights(seen), out(shape_.head_dim, 0);
    double top = -INFINITY, sum = 0;
    for (int p = 0; p < seen; ++p) {
      const float* k = values(s, p, kv_head, 0);
      double dot = 0;
      for (int d = 0; d < shape_.head_dim; ++d) dot += double{f16_to_f32(q[d])} * k[d];
      weights[p] = dot * scale();
      top = std::max(top, weights[p]);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - top);
    for (int p = 0; p < seen; ++p) {
      const float* v = values(s, p, kv_head, 1);
      for (int d = 0; d < shape_.head_dim; ++d) {
        out[d] += weights[p] / sum * v[d];
        *largest_v = std::max(*largest_v, std::abs(double{v[d]}));
      }
    }
    return out;
  }

  // A token's key or value, decoded once.
  const float* values(int s, int p, int kv_head, int which) const {
    if (decoded_.empty()) {
      first_.push_back(0);
      for (const int len : kv_len_) first_.push_back(first_.back() + len);
      decoded_.resize(first_.back() * 2 * shape_.n_kv_heads * shape_.head_dim);
      float* at = decoded_.data();
      for (int seq = 0; seq < n_seqs(); ++seq)
        for (int position = 0; position < kv_len_[seq]; ++position)
          for (int i = 0; i < 2 * shape_.n_kv_heads; ++i)
            for (int d = 0; d < shape_.head_dim; ++d) *at++ = kv_.value(seq, position, i / 2, i % 2, d);
    }
    return &decoded_[((first_[s] + p) * 2 * shape_.n_kv_heads + 2 * kv_head + which) * shape_.head_dim];
  }

  AttentionShape shape_;
  std::vector<Sequence> sequences_;
  DeviceProfile profile_;
  std::vector<int> kv_len_;
  KvPages kv_;
  std::vector<int32_t> q_start_{0};
  std::vector<uint16_t> q_;
  int64_t out_stride_ = 0;
  AttentionGrid grid_;
  mutable std::vector<float> decoded_;
  mutable std::vector<size_t> first_;
};

constexpr int kGroups[] = {1, 3, 4, 6, 7, 8, 16};
constexpr int kHeadDims[] = {64, 80, 96, 128, 256};

// A KV type, and the CTAs of the clusters that decode; 0: none.
class AttentionTest : public ::testing::TestWithParam<std::tuple<KvType, int>> {
 protected:
  void SetUp() override {
    const auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
    profile_ = *probed;
    use_clusters(std::get<1>(GetParam()));
  }
  void use_clusters(int ctas) {
    if (ctas == 0) {
      profile_.has_clusters = false;
      return;
    }
    const auto tuned = profile_.tune(fmt::format("attention_cluster={}", ctas));
    if (!tuned.ok()) GTEST_SKIP() << tuned.error().message;
  }
  AttentionShape shape(int group, int n_kv_heads, int head_dim) const {
    return {group * n_kv_heads, n_kv_heads, head_dim, std::get<0>(GetParam())};
  }
  DeviceProfile profile_;
};

TEST_P(AttentionTest, DecodeOfEveryGroupAndHeadSize_MatchesReference) {
  for (const int group : kGroups)
    for (const int dim : kHeadDims) {
      SCOPED_TRACE(fmt::format("group {}, head size {}", group, dim));
      AttentionCase c(shape(group, 2, dim), {{1, 1}, {1, 31}, {1, 32}, {1, 33}, {1, 1000}, {1, 257}}, 10 * group + dim,
                      profile_);
      c.check(c.run());
      if (HasFailure()) return;
    }
}

TEST_P(AttentionTest, SeveralQueriesOfASequence_SeeUpToTheirPosition) {
  for (const int group : {1, 2, 4, 7})
    for (const int dim : {64, 128}) {
      SCOPED_TRACE(fmt::format("group {}, head size {}", group, dim));
      const int most = 16 / group;  // what the decode kernel takes
      AttentionCase c(shape(group, 2, dim),
                      {{most, most}, {most, 32}, {most, 33}, {most, 64 + most / 2}, {1, 500}, {most, 500}}, group + dim,
                      profile_);
      c.check(c.run());
    }
}

TEST_P(AttentionTest, LongSequence_IsSplitAndMerged) {
  AttentionCase c(shape(4, 2, 128), {{1, 4097}, {2, 4096}}, 5, profile_);
  c.check(c.run());
  AttentionCase one_head(shape(8, 1, 64), {{1, 4095}}, 6, profile_);
  one_head.check(one_head.run());
}

TEST_P(AttentionTest, PrefillOfEveryGroupAndHeadSize_MatchesReference) {
  for (const int group : kGroups)
    for (const int dim : kHeadDims) {
      SCOPED_TRACE(fmt::format("group {}, head size {}", group, dim));
      AttentionCase c(shape(group, 1, dim), {{17, 17}, {33, 100}, {65, 65}, {18, 33}}, 20 * group + dim, profile_);
      c.check(c.run());
      if (HasFailure()) return;
    }
}

TEST_P(AttentionTest, PrefillChunksOfAnyLength_MatchReference) {
  for (const int n_q : {17, 31, 32, 33, 63, 64, 65, 127, 128, 129})
    for (const int before : {0, 1, 31, 32, 100}) {
      SCOPED_TRACE(fmt::format("{} queries after {}", n_q, before));
      AttentionCase c(shape(2, 2, 64), {{n_q, before + n_q}}, n_q + before, profile_);
      c.check(c.run());
      if (HasFailure()) return;
    }
}

TEST_P(AttentionTest, LateChunkOfALongPrompt_IsSplitAndMerged) {
  AttentionCase c(shape(4, 2, 128), {{20, 3001}}, 8, profile_);
  c.check(c.run());
}

TEST_P(AttentionTest, GroupsOfMoreThanSixteen_DecodeAsTiles) {
  AttentionCase c(shape(20, 1, 64), {{1, 1}, {1, 33}, {1, 1000}}, 9, profile_);
  c.check(c.run());
  AttentionCase wide(shape(71, 1, 64), {{1, 700}, {3, 40}}, 9, profile_);
  wide.check(wide.run());
}

TEST_P(AttentionTest, MixedStep_RunsBothKernels) {
  AttentionCase c(shape(4, 2, 128), {{1, 700}, {70, 150}, {1, 1}, {2, 64}, {130, 130}, {1, 33}}, 11, profile_);
  c.check(c.run());
}

TEST_P(AttentionTest, CapturedGridAndRepeats_GiveTheSameBits) {
  AttentionCase c(shape(4, 2, 128), {{1, 2000}, {1, 77}, {1, 640}}, 12, profile_);
  const std::vector<uint16_t> once = c.run();
  c.check(once);
  EXPECT_EQ(once, c.run(true));
  EXPECT_EQ(once, c.run(false, 20));
}

TEST_P(AttentionTest, FixedSplits_GiveASequenceTheSameBitsInAnyBatch) {
  profile_.attention_split_pages = 4;
  const AttentionShape s = shape(4, 2, 128);
  AttentionCase batch(s, {{1, 1500}, {1, 77}, {1, 640}, {1, 31}}, 13, profile_);
  const std::vector<uint16_t> together = batch.run();
  batch.check(together);
  AttentionCase alone(s, {{1, 1500}}, 13, profile_);
  const std::vector<uint16_t> by_itself = alone.run();
  int differences = 0;
  for (int h = 0; h < s.n_heads; ++h)
    for (int d = 0; d < s.head_dim; ++d)
      differences += alone.output(by_itself, 0, h, d) != batch.output(together, 0, h, d);
  EXPECT_EQ(differences, 0);
}

// More items than warps, so that warps have several whole ones; and pieces in every number, up to more than a warp's
// lanes share.
TEST_P(AttentionTest, ClustersOfAnySize_MatchReference) {
  if (std::get<1>(GetParam()) == 0) GTEST_SKIP() << "of clusters";
  std::vector<Sequence> many;
  for (int s = 0; s < profile_.n_sms * kMaxClusterWarps; ++s) many.push_back({1, 1 + s * 37 % 130});
  for (const int ctas : {1, 2, 4, 8}) {
    SCOPED_TRACE(fmt::format("clusters of {} CTAs", ctas));
    use_clusters(ctas);
    AttentionCase short_ones(shape(4, 2, 64), many, 21, profile_);
    short_ones.check(short_ones.run());
    for (const int dim : {64, 128, 256})
      for (const int kv_len : {40, 70, 200, 300, 520, 1200}) {
        AttentionCase alone(shape(6, 1, dim), {{1, kv_len}}, kv_len, profile_);
        alone.check(alone.run());
        if (HasFailure()) return;
      }
    // Parts of one item in several clusters.
    AttentionCase split(shape(4, 2, 128), {{1, 9000}, {2, 700}, {1, 5}}, 22, profile_);
    const std::vector<uint16_t> once = split.run();
    split.check(once);
    EXPECT_EQ(once, split.run(false, 10));
    if (HasFailure()) return;
  }
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<KvType, int>>& info) {
  return std::string(kv_name(std::get<0>(info.param))) + (std::get<1>(info.param) > 0 ? "_clusters" : "");
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionTest,
                         ::testing::Combine(::testing::Values(KvType::kF16, KvType::kQ8_0, KvType::kFp8),
                                            ::testing::Values(0, 4)),
                         name_of);

}  // namespace
}  // namespace spate::cuda::testing
