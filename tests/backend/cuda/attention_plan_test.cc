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
  PlannedStep(const AttentionShape& shape, const DeviceProfile& profile, const std::vector<Sequence>& sequences)
      : shape_(shape), sequences_(sequences) {
    int n_tokens = 0, context = 1;
    for (const Sequence& s : sequences) {
      q_start.push_back(n_tokens += s.n_q);
      kv_len.push_back(s.kv_len);
      context = std::max(context, s.kv_len);
    }
    // Limits that just hold the step, so that a worst case that is too small shows.
    AttentionPlanner planner(shape, profile, static_cast<int>(sequences.size()), n_tokens, context);
    block_.resize(planner.work_bytes() / sizeof(AttentionItem) + 1);
    const std::span bytes(reinterpret_cast<std::byte*>(block_.data()), static_cast<size_t>(planner.work_bytes()));
    planned = planner.plan(q_start, kv_len, bytes);
    work = planner.work_at(bytes.data());
    scratch = planner.scratch_size();
    work_bytes = planner.work_bytes();
    decode_grid = planner.decode_grid(static_cast<int>(sequences.size()));
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

  std::vector<int32_t> q_start{0}, kv_len;
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

TEST(AttentionPlan, OneQueryASequence_IsSaidOfStepsThatHaveNoOthers) {
  const auto grid = [](const AttentionShape& shape, const std::vector<Sequence>& sequences) {
    return PlannedStep(shape, h200(), sequences).planned.grid;
  };
  const AttentionGrid decode = grid(k8b, {{1, 700}, {1, 1}});
  EXPECT_TRUE(decode.one_query);
  for (const std::vector<Sequence>& others : {std::vector<Sequence>{{1, 700}, {2, 40}}, {{1, 700}, {100, 200}}}) {
    const AttentionGrid mixed = grid(k8b, others);
    EXPECT_FALSE(mixed.one_query);
    EXPECT_FALSE(decode.covers(mixed));
  }
  // Groups of more than 16 are the prefill kernel's.
  EXPECT_FALSE(grid({20, 1, 64, KvType::kF16}, {{1, 700}}).one_query);
}

TEST(AttentionPlan, SmallSharedMemory_MeansFewerWarps) {
  DeviceProfile small = h200();
  small.shared_bytes_per_block = 101376;  // 8.6, 8.9
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {64, 80, 96, 128, 256}) {
      const DecodeGeometry geometry = decode_geometry(type, dim, small.shared_bytes_per_block, kMaxDecodeWarps);
      EXPECT_GE(geometry.warps, 1);
      EXPECT_LE(decode_shared_bytes(type, dim, kDecodeTileRows, geometry.warps, geometry.stages),
                small.shared_bytes_per_block);
      EXPECT_LE(prefill_shared_bytes(type, dim), small.shared_bytes_per_block);
    }
}

TEST(AttentionPlan, RingsOfADataCentreDevice_KeepEnoughInFlight) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    for (const int dim : {80, 96, 128, 256}) {
      const DecodeGeometry geometry = decode_geometry(type, dim, h200().shared_bytes_per_block, kMaxDecodeWarps);
      EXPECT_GE(geometry.warps * (geometry.stages - 1) * plane_slot_bytes(type, dim), 42 * 1024) << dim;
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
