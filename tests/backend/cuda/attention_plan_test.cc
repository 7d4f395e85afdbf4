// The attention's work lists, without a GPU: what is covered, how evenly, and that the worst cases are.
#include "backend/cuda/attention_plan.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <tuple>

namespace spate::cuda {
namespace {

DeviceProfile h200() {
  DeviceProfile profile;
  profile.n_sms = 132;
  profile.shared_bytes_per_block = 232448;
  profile.capability = 90;
  return profile;
}

struct Sequence {
  int n_q, kv_len;
};

class PlannedStep {
 public:
  // room: sequences that a graph which may run it was captured for; 0: as many as there are.
  PlannedStep(const AttentionShape& shape, const DeviceProfile& profile, const std::vector<Sequence>& sequences,
              int room = 0)
      : shape_(shape), sequences_(sequences) {
    room = std::max(room, static_cast<int>(sequences.size()));
    int n_tokens = 0, context = 1;
    for (const Sequence& s : sequences) {
      q_start.push_back(n_tokens += s.n_q);
      kv_len.push_back(s.kv_len);
      context = std::max(context, s.kv_len);
    }
    // Limits that just hold the step, so that a worst case that is too small shows.
    AttentionPlanner planner(shape, profile, room, n_tokens, context);
    block_.resize(planner.work_bytes() / sizeof(AttentionItem) + 1);
    const std::span bytes(reinterpret_cast<std::byte*>(block_.data()), static_cast<size_t>(planner.work_bytes()));
    pages.resize(page_list(static_cast<int>(sequences.size())));
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(7 * i + 3);
    planned = planner.plan(q_start, kv_len, pages, bytes, room);
    work = planner.work_at(bytes.data());
    scratch = planner.scratch_size();
    work_bytes = planner.work_bytes();
    decode_grid = planner.decode_grid(room);
  }

  std::span<const AttentionItem> decode() const { return {work.items, size_t(work.cta_start[work.decode_ctas])}; }
  std::span<const AttentionItem> prefill() const {
    return {work.items + work.cta_start[work.decode_ctas], size_t(*work.n_prefill)};
  }
  std::span<const AttentionItem> of_cta(int cta) const {
    return {work.items + work.cta_start[cta], work.items + work.cta_start[cta + 1]};
  }

  // Every (sequence, KV head, row, page that the row sees) exactly once, parts in order with slots and counters of
  // their own inside the scratch memory.
  void check() const {
    ASSERT_LE(planned.used_bytes, work_bytes);
    std::map<std::tuple<int, int, int>, std::vector<AttentionItem>> tiles;
    for (const AttentionItem& item : decode()) tiles[{item.seq, item.kv_head, item.first_row}].push_back(item);
    for (const AttentionItem& item : prefill()) tiles[{item.seq, item.kv_head, item.first_row}].push_back(item);
    std::set<int> decode_slots, prefill_slots, counters;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const int n_rows = sequences_[s].n_q * shape_.group();
      const bool is_decode = n_rows <= kDecodeTileRows;
      const int tile_rows = is_decode ? kDecodeTileRows : kPrefillTileRows;
      for (int head = 0; head < shape_.n_kv_heads; ++head)
        for (int row = 0; row < n_rows; row += tile_rows) {
          auto& parts = tiles[{static_cast<int>(s), head, row}];
          std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.part < b.part; });
          const int last_token = (std::min(row + tile_rows, n_rows) - 1) / shape_.group();
          check_tile(parts, static_cast<int>(s), last_token, is_decode ? decode_slots : prefill_slots, counters);
          tiles.erase({static_cast<int>(s), head, row});
        }
    }
    EXPECT_TRUE(tiles.empty()) << tiles.size() << " tiles too many";
    const auto within = [](const std::set<int>& indices, int64_t n) {
      return indices.empty() || (*indices.begin() >= 0 && *indices.rbegin() < n);
    };
    EXPECT_TRUE(within(decode_slots, scratch.decode_elems / partial_elems(kDecodeTileRows, shape_.head_dim)));
    EXPECT_TRUE(within(prefill_slots, scratch.prefill_elems / partial_elems(kPrefillTileRows, shape_.head_dim)));
    EXPECT_TRUE(within(counters, scratch.n_counters));
  }

  std::vector<int32_t> q_start{0}, kv_len, pages;
  AttentionPlanner::Planned planned;
  AttentionWork work{};
  AttentionScratchSize scratch{};
  AttentionGrid decode_grid;
  int64_t work_bytes = 0;

 private:
  void check_tile(const std::vector<AttentionItem>& parts, int s, int last_token, std::set<int>& slots,
                  std::set<int>& counters) const {
    const Sequence& sequence = sequences_[s];
    ASSERT_FALSE(parts.empty()) << "sequence " << s;
    int page = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const AttentionItem& item = parts[i];
      ASSERT_EQ(item.q_start, q_start[s]);
      ASSERT_EQ(item.n_q, sequence.n_q);
      ASSERT_EQ(item.kv_len, sequence.kv_len);
      ASSERT_EQ(item.page_list, page_list(s));
      ASSERT_EQ(item.part, static_cast<int>(i));
      ASSERT_EQ(item.n_parts, static_cast<int>(parts.size()));
      ASSERT_EQ(item.first_page, page);
      ASSERT_GT(item.end_page, item.first_page);
      page = item.end_page;
      if (parts.size() == 1) continue;
      ASSERT_EQ(item.first_partial, parts[0].first_partial);
      ASSERT_EQ(item.counter, parts[0].counter);
      ASSERT_TRUE(slots.insert(item.first_partial + item.part).second) << "slot used twice";
    }
    if (parts.size() > 1) {
      ASSERT_TRUE(counters.insert(parts[0].counter).second) << "counter used twice";
    }
    const int seen = sequence.kv_len - sequence.n_q + last_token + 1;
    ASSERT_EQ(page, (seen + kPageTokens - 1) / kPageTokens) << "sequence " << s;
  }

  int page_list(int s) const {
    int n_pages = 0;
    for (int before = 0; before < s; ++before) n_pages += (sequences_[before].kv_len + kPageTokens - 1) / kPageTokens;
    return n_pages;
  }

  AttentionShape shape_;
  std::vector<Sequence> sequences_;
  std::vector<AttentionItem> block_;
};

std::vector<Sequence> decodes(int n, int kv_len) {
  return std::vector<Sequence>(n, Sequence{1, kv_len});
}

constexpr AttentionShape k8b{.n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .kv_type = KvType::kF16};

TEST(AttentionPlan, AnyStep_CoversEveryPageOnce) {
  std::mt19937 random(3);
  for (const int group : {1, 3, 4, 7, 8, 16, 20})
    for (const int n_kv_heads : {1, 2, 8})
      for (int round = 0; round < 20; ++round) {
        std::vector<Sequence> sequences;
        for (int n = 1 + static_cast<int>(random() % 40); n > 0; --n) {
          const int n_q = random() % 4 != 0 ? 1 : 1 + static_cast<int>(random() % (random() % 2 ? 16 : 300));
          const int before = static_cast<int>(random() % (random() % 8 ? 700 : 20000));
          sequences.push_back({n_q, before + n_q});
        }
        DeviceProfile profile = h200();
        profile.attention_split_pages = round % 3 == 2 ? 1 + static_cast<int>(random() % 40) : 0;
        SCOPED_TRACE(fmt::format("group {}, {} KV heads, round {}", group, n_kv_heads, round));
        const PlannedStep step({group * n_kv_heads, n_kv_heads, 128, KvType::kF16}, profile, sequences);
        step.check();
        if (HasFatalFailure()) return;
      }
}

TEST(AttentionPlan, PageBoundaries_AreExact) {
  for (const int len : {1, 31, 32, 33, 64, 65}) {
    const PlannedStep step(k8b, h200(), decodes(1, len));
    step.check();
    EXPECT_EQ(step.decode()[0].end_page, (len + 31) / 32);
  }
}

// What one CTA has to read at most, against an equal share.
double imbalance(const PlannedStep& step) {
  int64_t total = 0, most = 0;
  for (int cta = 0; cta < step.work.decode_ctas; ++cta) {
    int64_t pages = 0;
    for (const AttentionItem& item : step.of_cta(cta)) pages += item.end_page - item.first_page;
    total += pages;
    most = std::max(most, pages);
  }
  return static_cast<double>(most) * step.work.decode_ctas / static_cast<double>(total);
}

TEST(AttentionPlan, DecodeLoads_FillTheDeviceEvenly) {
  EXPECT_LT(imbalance({k8b, h200(), decodes(1, 65536)}), 1.04);
  EXPECT_LT(imbalance({k8b, h200(), decodes(32, 4096)}), 1.05);
  EXPECT_LT(imbalance({k8b, h200(), decodes(64, 640)}), 1.15);
  std::vector<Sequence> uneven = decodes(40, 300);
  uneven.push_back({1, 30000});
  EXPECT_LT(imbalance({k8b, h200(), uneven}), 1.15);
}

TEST(AttentionPlan, ShortContexts_TakeACtaEach) {
  for (const auto& [n_seqs, kv_len] : {std::pair(1, 500), {2, 200}, {16, 500}}) {
    const PlannedStep step(k8b, h200(), decodes(n_seqs, kv_len));
    for (const AttentionItem& item : step.decode()) EXPECT_EQ(item.n_parts, 1);
    for (int cta = 0; cta < step.work.decode_ctas; ++cta) EXPECT_LE(step.of_cta(cta).size(), 1u);
  }
}

TEST(AttentionPlan, OneMiddlingContext_IsCutIntoEqualParts) {
  const PlannedStep step(k8b, h200(), decodes(1, 3000));
  step.check();
  EXPECT_GT(step.decode().size(), 40u);
  for (const AttentionItem& item : step.decode()) EXPECT_NEAR(item.end_page - item.first_page, 94.0 / item.n_parts, 6);
  for (int cta = 0; cta < step.work.decode_ctas; ++cta) EXPECT_LE(step.of_cta(cta).size(), 1u);
}

TEST(AttentionPlan, ManyShortContexts_ShareTheCtas) {
  const PlannedStep step(k8b, h200(), decodes(200, 20));
  step.check();
  size_t most = 0;
  for (int cta = 0; cta < step.work.decode_ctas; ++cta) most = std::max(most, step.of_cta(cta).size());
  EXPECT_LE(most, 14u);  // 1,600 over 132 are 12.1
}

TEST(AttentionPlan, FixedSplits_DoNotDependOnNeighbours) {
  DeviceProfile profile = h200();
  profile.attention_split_pages = 16;
  std::vector<Sequence> batch = decodes(30, 777);
  batch[7].kv_len = 5000;
  const PlannedStep alone(k8b, profile, {{1, 5000}}), together(k8b, profile, batch);
  std::vector<std::pair<int, int>> ranges[2];
  for (const AttentionItem& item : alone.decode()) ranges[0].push_back({item.first_page, item.end_page});
  for (const AttentionItem& item : together.decode())
    if (item.seq == 7) ranges[1].push_back({item.first_page, item.end_page});
  EXPECT_EQ(ranges[0], ranges[1]);
}

TEST(AttentionPlan, FewPrefillTiles_AreSplitOverTheirKeys) {
  const PlannedStep step(k8b, h200(), {{17, 60000}});  // two tiles a KV head: 16 CTAs would do all
  EXPECT_GT(step.prefill().size(), 200u);
  step.check();
}

TEST(AttentionPlan, ManyPrefillTiles_ComeLongestFirst) {
  const PlannedStep step(k8b, h200(), {{2048, 2048}});
  const auto items = step.prefill();
  ASSERT_EQ(items.size(), 2048u * 4 / 64 * 8);
  for (size_t i = 1; i < items.size(); ++i)
    EXPECT_GE(items[i - 1].end_page - items[i - 1].first_page, items[i].end_page - items[i].first_page);
}

TEST(AttentionPlan, CapturedGrid_CoversEveryStepOfItsBucket) {
  std::mt19937 random(5);
  for (const int group : {1, 4, 8, 16, 20, 71})
    for (const int n_seqs : {1, 2, 7, 64}) {
      std::vector<Sequence> sequences = decodes(n_seqs, 1);
      for (Sequence& s : sequences) s.kv_len = 1 + static_cast<int>(random() % 20000);
      const PlannedStep step({2 * group, 2, 64, KvType::kF16}, h200(), sequences);
      EXPECT_TRUE(step.decode_grid.covers(step.planned.grid)) << "group " << group << ", " << n_seqs << " sequences";
      step.check();
    }
}

TEST(AttentionPlan, SmallSharedMemory_MeansFewerWarps) {
  DeviceProfile small = h200();
  small.shared_bytes_per_block = 101376;  // 8.6, 8.9
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {64, 80, 96, 128, 256}) {
      const DecodeGeometry geometry = decode_geometry(type, dim, small.shared_bytes_per_block);
      EXPECT_GE(geometry.warps, 1);
      EXPECT_LE(decode_shared_bytes(type, dim, kDecodeTileRows, geometry.warps, geometry.stages),
                small.shared_bytes_per_block);
      EXPECT_LE(prefill_shared_bytes(type, dim), small.shared_bytes_per_block);
    }
}

TEST(AttentionPlan, RingsOfADataCentreDevice_KeepEnoughInFlight) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {80, 96, 128, 256}) {
      const DecodeGeometry geometry = decode_geometry(type, dim, h200().shared_bytes_per_block);
      EXPECT_GE(geometry.warps * (geometry.stages - 1) * plane_slot_bytes(type, dim), 42 * 1024) << dim;
    }
}

// What the warps of a step's clusters read, and how much each cluster.
class ClusterStep : public PlannedStep {
 public:
  ClusterStep(const AttentionShape& shape, int ctas, const std::vector<Sequence>& sequences)
      : PlannedStep(shape, with_clusters(ctas), sequences), ctas_(ctas) {}

  static DeviceProfile with_clusters(int ctas) {
    DeviceProfile profile = h200();
    profile.has_clusters = true;
    profile.attention_cluster = ctas;
    return profile;
  }

  int n_warps() const { return ctas_ * decode_grid.decode_warps; }
  int n_clusters() const { return decode_grid.decode_ctas / ctas_; }
  std::span<const WarpSpan> of_cluster(int cluster) const {
    return {work.spans + cluster * n_warps(), static_cast<size_t>(n_warps())};
  }
  int pages_of(const WarpSpan& span) const {
    int n = 0;
    for (int i = span.first_item; i < span.end_item; ++i)
      n += i == span.first_item ? span.end_listed - span.first_listed
                                : work.items[i].end_page - work.items[i].first_page;
    return n;
  }
  int most_pages_of_a_warp() const {
    int most = 0;
    for (int c = 0; c < n_clusters(); ++c)
      for (const WarpSpan& span : of_cluster(c)) most = std::max(most, pages_of(span));
    return most;
  }
  // What one cluster reads at most, against an equal share.
  double imbalance() const {
    int64_t total = 0, most = 0;
    for (int c = 0; c < n_clusters(); ++c) {
      int64_t n = 0;
      for (const WarpSpan& span : of_cluster(c)) n += pages_of(span);
      total += n;
      most = std::max(most, n);
    }
    return static_cast<double>(most * n_clusters()) / static_cast<double>(total);
  }
  int busy_clusters() const {
    int n = 0;
    for (int c = 0; c < n_clusters(); ++c) n += of_cluster(c)[0].end_item > of_cluster(c)[0].first_item;
    return n;
  }

  // Every page of every item is read by one warp; warps with pieces of an item lie side by side in one cluster.
  void check_spans() const {
    std::vector<int> pages_read(decode().size(), 0);
    for (int c = 0; c < n_clusters(); ++c) {
      const auto spans = of_cluster(c);
      bool idle = false;
      for (int w = 0; w < n_warps(); ++w) {
        const WarpSpan& span = spans[w];
        idle |= w == 0 && span.first_item == span.end_item;
        if (span.first_item == span.end_item) {
          ASSERT_EQ(span.n_pieces, 0);
          continue;
        }
        ASSERT_FALSE(idle) << "the kernel takes a cluster for idle whose first warp is";
        check_span(spans, w);
        if (::testing::Test::HasFatalFailure()) return;
        for (int i = span.first_item; i < span.end_item; ++i)
          pages_read[i] += i == span.first_item ? span.end_listed - span.first_listed
                                                : work.items[i].end_page - work.items[i].first_page;
      }
    }
    for (size_t i = 0; i < decode().size(); ++i)
      ASSERT_EQ(pages_read[i], decode()[i].end_page - decode()[i].first_page) << "item " << i;
  }

 private:
  void check_span(std::span<const WarpSpan> spans, int w) const {
    const WarpSpan& span = spans[w];
    ASSERT_GE(span.first_item, 0);
    ASSERT_LE(span.end_item, static_cast<int>(decode().size()));
    const AttentionItem& item = work.items[span.first_item];
    ASSERT_EQ(span.kv_head, item.kv_head);
    ASSERT_LT(span.first_listed, span.end_listed);
    const int first_page = span.first_listed - item.page_list, end_page = span.end_listed - item.page_list;
    ASSERT_EQ(span.page_ids[0], pages[span.first_listed]);
    if (span.end_listed - span.first_listed > 1) {
      ASSERT_EQ(span.page_ids[1], pages[span.first_listed + 1]);
    }
    if (span.n_pieces == 0) {  // whole items, whose results need no merging
      ASSERT_EQ(first_page, item.first_page);
      ASSERT_EQ(end_page, item.end_page);
      for (int i = span.first_item; i < span.end_item; ++i) ASSERT_EQ(work.items[i].n_parts, 1);
      return;
    }
    ASSERT_EQ(span.end_item, span.first_item + 1);
    ASSERT_TRUE(span.n_pieces > 1 || item.n_parts > 1);
    ASSERT_LE(w - span.piece + span.n_pieces, n_warps());
    ASSERT_EQ(first_page == item.first_page, span.piece == 0);
    ASSERT_EQ(end_page == item.end_page, span.piece + 1 == span.n_pieces);
    if (span.piece == 0) return;
    const WarpSpan& before = spans[w - 1];
    ASSERT_EQ(before.first_item, span.first_item);
    ASSERT_EQ(before.piece + 1, span.piece);
    ASSERT_EQ(before.n_pieces, span.n_pieces);
    ASSERT_EQ(before.end_listed, span.first_listed);
  }

  int ctas_;
};

TEST(AttentionClusters, AnyStep_EveryPageIsOneWarps) {
  std::mt19937 random(7);
  for (const int ctas : {1, 2, 4, 8})
    for (const int n_kv_heads : {1, 2, 8})
      for (int round = 0; round < 20; ++round) {
        std::vector<Sequence> sequences;
        for (int n = 1 + static_cast<int>(random() % (round % 5 == 0 ? 256 : 40)); n > 0; --n) {
          const int n_q = random() % 4 != 0 ? 1 : 1 + static_cast<int>(random() % (random() % 2 ? 16 : 300));
          const int before = static_cast<int>(random() % (random() % 8 ? 700 : 40000));
          sequences.push_back({n_q, before + n_q});
        }
        SCOPED_TRACE(fmt::format("clusters of {}, {} KV heads, round {}", ctas, n_kv_heads, round));
        const int dim = round % 2 == 0 ? 128 : 256;
        const KvType type = round % 3 == 0 ? KvType::kFp8 : KvType::kF16;
        const ClusterStep step({4 * n_kv_heads, n_kv_heads, dim, type}, ctas, sequences);
        step.check();
        step.check_spans();
        if (HasFailure()) return;
      }
}

TEST(AttentionClusters, ShortContexts_GiveAWarpAPageAndAnItemACluster) {
  for (const int ctas : {2, 4, 8}) {
    const ClusterStep step(k8b, ctas, decodes(1, 560));
    step.check_spans();
    EXPECT_EQ(step.busy_clusters(), 8);
    EXPECT_EQ(step.most_pages_of_a_warp(), 1);
    for (const AttentionItem& item : step.decode()) EXPECT_EQ(item.n_parts, 1);
  }
}

TEST(AttentionClusters, BatchesOfOneLength_FillTheDeviceEvenly) {
  for (const int n_seqs : {8, 16, 32, 64}) {
    const ClusterStep step(k8b, 4, decodes(n_seqs, 560));
    step.check_spans();
    EXPECT_EQ(step.busy_clusters(), 32);
    EXPECT_LT(step.imbalance(), 1.001) << n_seqs;
    for (const AttentionItem& item : step.decode()) EXPECT_EQ(item.n_parts, 1);
  }
}

TEST(AttentionClusters, LongContexts_AreSplitBetweenClusters) {
  EXPECT_LT(ClusterStep(k8b, 4, decodes(1, 65536)).imbalance(), 1.01);
  EXPECT_LT(ClusterStep(k8b, 4, decodes(5, 8192)).imbalance(), 1.3);
  EXPECT_LT(ClusterStep(k8b, 4, decodes(32, 4096)).imbalance(), 1.01);
  std::vector<Sequence> uneven = decodes(40, 300);
  uneven.push_back({1, 30000});
  EXPECT_LT(ClusterStep(k8b, 4, uneven).imbalance(), 1.2);
  EXPECT_LT(ClusterStep(k8b, 1, decodes(1, 65536)).imbalance(), 1.05);
  EXPECT_LT(ClusterStep(k8b, 1, decodes(32, 4096)).imbalance(), 1.05);
}

TEST(AttentionClusters, ManyItems_ShareTheSmsEvenly) {
  for (const int n_seqs : {32, 48, 64, 128}) {
    const ClusterStep step(k8b, 1, decodes(n_seqs, 560));
    EXPECT_LT(step.imbalance(), 1.1) << n_seqs;
    for (const AttentionItem& item : step.decode()) EXPECT_EQ(item.n_parts, 1);
  }
}

// Few items share their pages between several SMs; many have SMs enough without.
TEST(AttentionClusters, PlannedSize_FollowsTheItems) {
  const auto ctas = [](const AttentionShape& shape, int n_seqs) {
    return PlannedStep(shape, ClusterStep::with_clusters(0), decodes(n_seqs, 560)).decode_grid.decode_cluster;
  };
  for (const int n_seqs : {1, 2, 8, 12}) EXPECT_EQ(ctas(k8b, n_seqs), 4) << n_seqs;
  for (const int n_seqs : {13, 16, 32, 64, 256}) EXPECT_EQ(ctas(k8b, n_seqs), 1) << n_seqs;
  EXPECT_EQ(ctas({.n_heads = 14, .n_kv_heads = 2, .head_dim = 64, .kv_type = KvType::kF16}, 48), 4);
}

// The clusters' size is the graph's, however few of its sequences there are.
TEST(AttentionClusters, PlannedSize_IsThatOfTheGraph) {
  const DeviceProfile profile = ClusterStep::with_clusters(0);
  for (const int room : {1, 2, 8, 16, 24, 32, 48, 64, 128})
    for (const int n_seqs : {1, room / 2 + 1, room}) {
      const PlannedStep step(k8b, profile, decodes(n_seqs, 700), room);
      step.check();
      EXPECT_TRUE(step.decode_grid.covers(step.planned.grid)) << n_seqs << " sequences of " << room;
    }
}

TEST(AttentionClusters, FixedSplits_AreTheOtherKernels) {
  DeviceProfile profile = ClusterStep::with_clusters(4);
  EXPECT_EQ(PlannedStep(k8b, profile, decodes(3, 100)).decode_grid.decode_cluster, 4);
  profile.attention_split_pages = 16;
  EXPECT_EQ(PlannedStep(k8b, profile, decodes(3, 100)).decode_grid.decode_cluster, 0);
}

TEST(AttentionClusters, CapturedGrid_CoversEveryStepOfItsBucket) {
  std::mt19937 random(5);
  for (const int group : {1, 4, 16, 20})
    for (const int n_seqs : {1, 7, 64}) {
      std::vector<Sequence> sequences = decodes(n_seqs, 1);
      for (Sequence& s : sequences) s.kv_len = 1 + static_cast<int>(random() % 20000);
      const ClusterStep step({2 * group, 2, 64, KvType::kF16}, 4, sequences);
      EXPECT_TRUE(step.decode_grid.covers(step.planned.grid)) << "group " << group << ", " << n_seqs << " sequences";
      EXPECT_FALSE(
          PlannedStep({2 * group, 2, 64, KvType::kF16}, h200(), sequences).decode_grid.covers(step.planned.grid) &&
          group < 20)
          << "a grid without clusters";
    }
}

TEST(AttentionClusters, SharedMemory_HoldsSlotsAndResults) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int ctas : {1, 4, 8}) {
        for (const int shared_bytes : {h200().shared_bytes_per_block, 101376}) {  // 9.0 and 12.0
          const DecodeGeometry geometry = cluster_geometry(type, dim, ctas, shared_bytes);
          EXPECT_GE(geometry.warps, 1);
          EXPECT_LE(cluster_shared_bytes(type, dim, ctas, geometry.warps, geometry.stages), shared_bytes);
          EXPECT_GE(geometry.warps * geometry.stages * cluster_page_bytes(type, dim), shared_bytes / 4) << dim;
          EXPECT_GE(cluster_warp_bytes(type, dim, geometry.stages), cluster_result_bytes(dim, kDecodeTileRows));
        }
      }
}

// A page's planes in shared memory: eight tokens' chunks of one index, which ldmatrix reads at once, lie in different
// groups of four banks.
TEST(KvPool, Swizzle_SpreadsEightTokensOverAllBanks) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {64, 80, 96, 128, 256}) {
      const int row_bytes = kv_row_bytes(type, dim);
      for (int first = 0; first < kPageTokens; first += 8)
        for (int chunk = 0; chunk < row_bytes / kKvChunkBytes; ++chunk) {
          std::set<int> groups;
          for (int token = first; token < first + 8; ++token)
            groups.insert((token * row_bytes / kKvChunkBytes + kv_chunk(row_bytes, token, chunk)) % 8);
          ASSERT_EQ(groups.size(), 8u) << "rows of " << row_bytes << " bytes, chunk " << chunk;
        }
    }
}

TEST(KvPool, Swizzle_PermutesTheChunksOfARow) {
  for (const int row_bytes : {64, 80, 96, 128, 160, 192, 256, 512})
    for (int token = 0; token < kPageTokens; ++token) {
      std::set<int> chunks;
      for (int chunk = 0; chunk < row_bytes / kKvChunkBytes; ++chunk) chunks.insert(kv_chunk(row_bytes, token, chunk));
      ASSERT_EQ(chunks.size(), static_cast<size_t>(row_bytes / kKvChunkBytes));
      ASSERT_EQ(*chunks.begin(), 0);
      ASSERT_EQ(*chunks.rbegin(), row_bytes / kKvChunkBytes - 1);
    }
}

}  // namespace
}  // namespace spate::cuda
