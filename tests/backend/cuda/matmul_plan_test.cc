// How products are cut up, for devices and models that this machine does not have.
#include "backend/cuda/matmul_plan.h"

#include <gtest/gtest.h>

#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_stream.h"
#include "backend/cuda/matmul_stream_int8.h"
#include "backend/cuda/matmul_wide.h"

namespace spate::cuda {
namespace {

DeviceProfile device(int n_sms, int shared_bytes) {
  DeviceProfile profile;
  profile.n_sms = n_sms;
  profile.shared_bytes_per_block = shared_bytes;
  return profile;
}

// Of 132 SMs in GPCs of 16 and 18.
constexpr ClusterRoom kH200Room = {{0, 132, 66, 40, 32, 24, 18, 16, 16}};

// From an 0.5B model to one of 405 billion weights, with vocabularies of 32,000 to 262,144 tokens.
TEST(MatmulPlan, EveryModelOnEveryDevice_FitsTheMemoryThatItWasPromised) {
  for (const auto& profile : {device(16, 99 << 10), device(24, 99 << 10), device(82, 99 << 10), device(108, 163 << 10),
                              device(132, 227 << 10), device(148, 227 << 10)}) {
    for (const auto& [d_model, d_ff] :
         {std::pair(896, 4864), std::pair(1536, 8960), std::pair(4096, 14336), std::pair(5120, 27648),
          std::pair(8192, 28672), std::pair(12288, 28672), std::pair(16384, 53248)}) {
      for (const int vocab : {32000, 128256, 262144}) {
        const int max_slots = std::max({2 * d_ff, vocab, 3 * d_model}) / kTileRows;
        const MmaMemory memory = mma_memory(max_slots, profile);
        const MmaShape products[] = {{0, 3 * d_model / kTileRows, d_model / kTileCols, false},
                                     {0, d_model / kTileRows, d_model / kTileCols, false},
                                     {0, 2 * d_ff / kTileRows, (d_model + 255) / kTileCols, true},
                                     {0, d_model / kTileRows, (d_ff + 255) / kTileCols, false},
                                     {0, vocab / kTileRows, (d_model + 255) / kTileCols, false}};
        for (MmaShape shape : products) {
          for (shape.n_tokens = 1; shape.n_tokens < 300; shape.n_tokens += shape.n_tokens < 70 ? 1 : 19) {
            const MmaPlan plan = plan_mma(shape, memory, profile);
            SCOPED_TRACE(::testing::Message() << profile.n_sms << " SMs, " << shape.n_slots << " panels, "
                                              << shape.n_k_tiles << " K tiles, " << shape.n_tokens << " tokens");
            ASSERT_LE(plan.counters(), memory.n_counters);
            ASSERT_LE(plan.partial_elems(), memory.partial_elems);
            ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block);
            const MmaTierShape tier = tier_shape(plan.tier);
            ASSERT_GE(plan.slot_groups * (tier.n_panels << plan.warps_m_log2), shape.n_slots);
            ASSERT_GE(plan.token_groups * tier.tokens, shape.n_tokens);
            ASSERT_GE(plan.split_k, 1);
            ASSERT_LE(plan.split_k, shape.n_k_tiles);
          }
        }
      }
    }
  }
}

// Rings of at least two chunks, and segments that cover K with one for each warp at most.
TEST(StreamPlan, EveryWidth_FitsOrIsRefused) {
  for (auto profile : {device(132, 227 << 10), device(148, 227 << 10), device(24, 99 << 10)}) {
    profile.stream_tokens = profile.stream_decoded_tokens = 8;
    for (int n_k_tiles = 1; n_k_tiles <= 256; n_k_tiles += n_k_tiles < 24 ? 1 : 23) {
      for (const auto& [tile_bytes, two_types] :
           {std::pair(2304, false), std::pair(3360, true), std::pair(4352, false), std::pair(8192, false)})
        for (const int n_slots : {2, 3 * 32, 256, 896 * 2, 8016, 16384}) {
          for (int n_tokens = 1; n_tokens <= 8; ++n_tokens) {
            for (const bool swiglu : {false, true}) {
              SCOPED_TRACE(::testing::Message() << profile.n_sms << " SMs, " << n_slots << " panels, " << n_k_tiles
                                                << " K tiles of " << tile_bytes << " bytes, " << n_tokens << " tokens");
              const StreamPlan plan =
                  plan_stream({n_tokens, n_slots, n_k_tiles, swiglu}, tile_bytes, two_types, {}, profile);
              const int activations = (n_k_tiles * kTokenTileBytes) << shared_tokens_log2(1, n_tokens);
              const int n_chunks = chunks_per_tile(tile_bytes);
              if (plan.n_ctas == 0) {
                ASSERT_GT(activations, profile.shared_bytes_per_block - (64 << 10));
                continue;
              }
              ASSERT_LE(plan.n_ctas, profile.n_sms);
              ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block - 1024);
              ASSERT_EQ(plan.shared_bytes, StreamLayout::of(plan.shape,
                                                            float16_stream(n_k_tiles, shared_tokens_log2(1, n_tokens),
                                                                           tile_bytes / n_chunks),
                                                            shared_tokens_log2(1, n_tokens))
                                               .n_bytes);
              ASSERT_GE(plan.shape.n_stages, 2);
              ASSERT_LE(plan.shape.n_warps, max_stream_warps(tile_bytes, two_types));
              ASSERT_LE(plan.shape.n_segments, plan.shape.n_warps);
              ASSERT_GE(plan.shape.n_segments * plan.shape.segment_chunks, n_k_tiles * n_chunks);
              ASSERT_LT((plan.shape.n_segments - 1) * plan.shape.segment_chunks, n_k_tiles * n_chunks);
              ASSERT_GE(plan.shape.n_segments << plan.shape.places_log2, 2 * plan.shape.n_warps);
            }
          }
        }
    }
  }
}

// K shared by the CTAs of clusters: each has a segment of every number, none is empty, and together they cover K.
TEST(StreamPlan, KSharedInClusters_FitsOrIsRefused) {
  DeviceProfile profile = device(132, 227 << 10);
  profile.stream_tokens = profile.stream_decoded_tokens = 8;
  int n_shared = 0, n_whole = 0;
  for (const int split : {2, 4}) {
    profile.stream_k_split = split;
    for (const bool always : {false, true}) {
      profile.stream_k_split_always = always;
      for (int n_k_tiles = 1; n_k_tiles <= 256; n_k_tiles += n_k_tiles < 80 ? 1 : 23) {
        for (const auto& [tile_bytes, two_types] :
             {std::pair(1344, false), std::pair(2304, false), std::pair(3360, true), std::pair(8192, false)}) {
          for (const int n_slots : {2, 3 * 32, 256, 896 * 2, 8016}) {
            for (const int n_tokens : {1, 4, 8}) {
              const bool swiglu = n_slots % 256 == 0;
              SCOPED_TRACE(::testing::Message() << split << " CTAs share K, " << n_slots << " panels, " << n_k_tiles
                                                << " K tiles of " << tile_bytes << " bytes, " << n_tokens << " tokens");
              const StreamPlan plan =
                  plan_stream({n_tokens, n_slots, n_k_tiles, swiglu}, tile_bytes, two_types, kH200Room, profile);
              const StreamShape& shape = plan.shape;
              const int tokens_log2 = shared_tokens_log2(1, n_tokens),
                        most = KShare::most(n_k_tiles, shape.cluster_log2);
              if (plan.n_ctas == 0) {
                const int shared = two_types ? 0 : split / 2;  // parts of two types share no K
                const int activations = (KShare::most(n_k_tiles, shared) * kTokenTileBytes) << tokens_log2;
                ASSERT_GT(activations, profile.shared_bytes_per_block - (64 << 10));
                continue;
              }
              ++(shape.cluster_log2 > 0 ? n_shared : n_whole);
              ASSERT_TRUE(shape.cluster_log2 == 0 || shape.cluster_log2 == split / 2) << shape.cluster_log2;
              ASSERT_TRUE(!always || two_types || shape.cluster_log2 > 0 || n_k_tiles < split)
                  << "no tile for every CTA";
              const int n_clusters = plan.n_ctas >> shape.cluster_log2, n_groups = swiglu ? n_slots / 2 : n_slots;
              ASSERT_EQ(n_clusters << shape.cluster_log2, plan.n_ctas);
              ASSERT_LE(n_clusters, std::min(n_groups, kH200Room.clusters[1 << shape.cluster_log2]));
              const int n_chunks = chunks_per_tile(tile_bytes);
              int end = 0;
              for (int rank = 0; rank < 1 << shape.cluster_log2; ++rank) {
                const KShare k = KShare::of(n_k_tiles, shape.cluster_log2, rank);
                ASSERT_EQ(k.first, end);
                ASSERT_LE(k.n, most);
                end += k.n;
                ASSERT_GE(shape.n_segments * shape.segment_chunks, k.n * n_chunks) << rank;
                ASSERT_LT((shape.n_segments - 1) * shape.segment_chunks, k.n * n_chunks) << rank;
              }
              ASSERT_EQ(end, n_k_tiles);
              const StreamBytes bytes = float16_stream(most, tokens_log2, tile_bytes / n_chunks);
              ASSERT_EQ(plan.shared_bytes, StreamLayout::of(shape, bytes, tokens_log2).n_bytes);
              ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block - 1024);
              ASSERT_GE(shape.n_stages, 2);
              ASSERT_LE(shape.n_segments, shape.n_warps);
              ASSERT_GE(1 << shape.places_log2, swiglu ? 2 : 1) << "gate and up are added up side by side";
            }
          }
        }
      }
    }
  }
  EXPECT_GT(n_shared, 0);
  EXPECT_GT(n_whole, 0);
}

// Of 5 to 8 tokens, down's activations leave a CTA no room for weights unless K is shared; those of the others do.
TEST(StreamPlan, AnEightBillionModelOnAnH200_SharesTheKOfDown) {
  DeviceProfile profile = device(132, 227 << 10);
  profile.stream_tokens = profile.stream_decoded_tokens = 8;
  constexpr int kQ4Bytes = 2304, kQ6Bytes = 3360;
  const auto tiles_of_slowest_warp = [](const StreamPlan& plan, int n_slots) {
    const int n_clusters = plan.n_ctas >> plan.shape.cluster_log2;
    const int segments = (n_slots + n_clusters - 1) / n_clusters * plan.shape.n_segments;
    return (segments + plan.shape.n_warps - 1) / plan.shape.n_warps * plan.shape.segment_chunks;
  };
  for (int n_tokens = 5; n_tokens <= 8; ++n_tokens) {
    const MmaShape down{n_tokens, 256, 56, false};
    profile.stream_k_split = 0;
    EXPECT_EQ(plan_stream(down, kQ4Bytes, false, kH200Room, profile).n_ctas, 0);
    profile.stream_k_split = 2;
    EXPECT_EQ(plan_stream(down, kQ4Bytes, false, {}, profile).n_ctas, 0) << "a device without clusters";
    const StreamPlan q4 = plan_stream(down, kQ4Bytes, false, kH200Room, profile);
    EXPECT_EQ(q4.n_ctas, 132);
    EXPECT_EQ(q4.shape.cluster_log2, 1);
    EXPECT_EQ(q4.shape.n_warps, 20);
    EXPECT_LE(tiles_of_slowest_warp(q4, 256), 6);
    const StreamPlan q6 = plan_stream(down, kQ6Bytes, false, kH200Room, profile);
    EXPECT_EQ(q6.n_ctas, 132);
    EXPECT_GE(q6.shape.n_warps, 16);
    EXPECT_LE(tiles_of_slowest_warp(q6, 256), 7);
    const MmaShape gate_up{n_tokens, 1792, 16, true};
    EXPECT_EQ(plan_stream(gate_up, kQ4Bytes, false, kH200Room, profile).shape.cluster_log2, 0);
    profile.stream_k_split_always = true;
    const StreamPlan always = plan_stream(gate_up, kQ4Bytes, false, kH200Room, profile);
    EXPECT_EQ(always.shape.cluster_log2, 1);
    EXPECT_EQ(always.n_ctas, 132);
    profile.stream_k_split_always = false;
  }
}

TEST(StreamPlan, OneKernelsThresholds_AreNotAnothers) {
  DeviceProfile profile = device(132, 227 << 10);
  const MmaShape shape{1, 256, 16, false};
  EXPECT_EQ(plan_stream(shape, HalfTile::kBytes, false, {}, profile).n_ctas, 0);  // a device without bulk copies
  profile.stream_tokens = 1;
  EXPECT_EQ(plan_stream(shape, HalfTile::kBytes, false, {}, profile).n_ctas, 132);
  EXPECT_EQ(plan_stream({2, 256, 16, false}, HalfTile::kBytes, false, {}, profile).n_ctas, 0);
  profile.mma_warps_m = 2;
  EXPECT_EQ(plan_stream(shape, HalfTile::kBytes, false, {}, profile).n_ctas, 0);
}

// Rings of at least two tiles, segments that cover K, and a refusal only where activations leave no room for rings.
TEST(StreamInt8Plan, EveryShape_FitsOrIsRefused) {
  int n_refused = 0, n_planned = 0;
  for (auto profile : {device(132, 227 << 10), device(148, 227 << 10), device(24, 99 << 10)}) {
    profile.stream_int8_tokens = kMaxStreamInt8Tokens;
    for (const int n_warps : {4, 10, 15, 16}) {
      profile.stream_int8_warps = n_warps;
      for (int n_k_tiles = 1; n_k_tiles <= 600; n_k_tiles += n_k_tiles < 24 ? 1 : 64) {
        for (const int n_slots : {2, 3 * 32, 256, 896 * 2, 8016, 16384}) {
          for (const int tile_bytes : {1344, 2304, 3360, 4352}) {
            for (const bool two_types : {false, true}) {
              SCOPED_TRACE(::testing::Message()
                           << profile.n_sms << " SMs, " << n_warps << " warps, " << n_slots << " panels, " << n_k_tiles
                           << " K tiles of " << tile_bytes << " bytes, " << (two_types ? "two types" : "one type"));
              const StreamPlan plan =
                  plan_stream_int8({1, n_slots, n_k_tiles, !two_types}, tile_bytes, two_types, profile);
              const StreamBytes bytes = int8_stream(n_k_tiles, two_types, tile_bytes);
              if (plan.n_ctas == 0) {
                ++n_refused;
                ASSERT_GT(bytes.activations, profile.shared_bytes_per_block - (64 << 10));
                continue;
              }
              ++n_planned;
              ASSERT_LE(plan.n_ctas, profile.n_sms);
              ASSERT_LE(plan.n_ctas, n_slots);
              ASSERT_EQ(plan.shared_bytes, StreamLayout::of(plan.shape, bytes, 0).n_bytes);
              ASSERT_TRUE(plan.shape.n_early >= 1 && plan.shape.n_early <= plan.shape.n_stages) << plan.shape.n_early;
              ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block - 1024);
              ASSERT_GE(plan.shape.n_stages, 2);
              ASSERT_LE(plan.shape.n_warps, std::min(n_warps, max_stream_int8_warps(tile_bytes, two_types)));
              ASSERT_EQ(plan.shape.n_warps % 2, 0) << "two types share them";
              ASSERT_LE(plan.shape.n_segments, plan.shape.n_warps);
              ASSERT_GE(plan.shape.n_segments * plan.shape.segment_chunks, n_k_tiles);
              ASSERT_LT((plan.shape.n_segments - 1) * plan.shape.segment_chunks, n_k_tiles);
              ASSERT_GE(plan.shape.n_segments << plan.shape.places_log2, 2 * plan.shape.n_warps);
            }
          }
        }
      }
    }
  }
  EXPECT_GT(n_refused, 0);
  EXPECT_GT(n_planned, n_refused);
}

// Every product of 9 tokens and more on an H200 has a plan that fits, for tiles of every type's size.
void expect_wide_plans_fit(const DeviceProfile& profile, const ClusterRoom& room) {
  for (const auto& [d_model, d_ff] : {std::pair(896, 4864), std::pair(1536, 8960), std::pair(4096, 14336),
                                      std::pair(8192, 28672), std::pair(16384, 53248)}) {
    const int vocab = 262144, max_slots = vocab / kTileRows;
    const MmaShape products[] = {{0, 3 * d_model / kTileRows, (d_model + 255) / kTileCols, false},
                                 {0, d_model / kTileRows, (d_ff + 255) / kTileCols, false},
                                 {0, 2 * d_ff / kTileRows, (d_model + 255) / kTileCols, true},
                                 {0, max_slots, (d_model + 255) / kTileCols, false},
                                 {0, 1, 1, false}};
    for (MmaShape shape : products) {
      for (const int tile_bytes : {1344, 2304, 3360, 4352, 8192}) {
        for (const int n_tokens : {9, 16, 17, 32, 33, 64, 65, 128, 129, 300, 767, 2048}) {
          shape.n_tokens = n_tokens;
          const WidePlan plan = plan_wide(shape, {shape.n_slots, tile_bytes}, room, profile);
          SCOPED_TRACE(::testing::Message() << shape.n_slots << " panels, " << shape.n_k_tiles << " K tiles of "
                                            << tile_bytes << " bytes, " << n_tokens << " tokens");
          ASSERT_TRUE(n_tokens <= 16 ? plan.tokens == 16 : plan.tokens >= 32) << plan.tokens;
          const int warps_m = 1 << plan.warps_m_log2;
          ASSERT_GE(plan.slot_groups * warps_m, shape.n_slots);
          ASSERT_GE(plan.token_groups * plan.tokens, n_tokens);
          ASSERT_TRUE(plan.cluster >= 1 && plan.cluster <= std::min(profile.wide_cluster, shape.n_k_tiles));
          ASSERT_GT(room.clusters[plan.cluster], 0);
          ASSERT_TRUE(plan.shape.x_stages >= 2 && plan.shape.weight_stages >= 2);
          const WideLayout at = WideLayout::of(plan.shape, plan.tokens, kWideWarps / warps_m, tile_bytes);
          ASSERT_GE(plan.shared_bytes, at.n_bytes + kWideAlignment);
          ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block);
        }
      }
    }
  }
}

TEST(WidePlan, EveryModel_FitsInClusters) {
  DeviceProfile profile = device(132, 227 << 10);
  for (profile.wide_cluster = 1; profile.wide_cluster <= kMaxCluster; ++profile.wide_cluster) {
    expect_wide_plans_fit(profile, kH200Room);
    ClusterRoom pairs;
    pairs.clusters[1] = 132;
    pairs.clusters[2] = 66;
    expect_wide_plans_fit(profile, pairs);
  }
}

// CTAs of two types: each has slots of one.
TEST(WidePlan, TwoTypes_HaveCtasOfTheirOwn) {
  DeviceProfile profile = device(132, 227 << 10);
  for (const int cluster : {1, 8}) {
    profile.wide_cluster = cluster;
    for (const int n_tokens : {9, 32, 33, kWidePairTokens}) {
      for (const auto& [first, second] : {std::pair(320, 64), std::pair(1, 1), std::pair(112, 16), std::pair(5, 300)}) {
        const MmaShape shape{n_tokens, first + second, 16, false};
        const WidePlan plan = plan_wide(shape, {first, 3360}, kH200Room, profile);
        const int warps_m = 1 << plan.warps_m_log2;
        EXPECT_TRUE(plan.tokens == 32 || plan.tokens == 64) << plan.tokens;
        EXPECT_EQ(plan.slot_groups, (first + warps_m - 1) / warps_m + (second + warps_m - 1) / warps_m);
        EXPECT_GE(plan.token_groups * plan.tokens, n_tokens);
      }
    }
  }
}

// What finds no room at once waits for a place: as many rounds of tiles again.
TEST(WidePlan, Clusters_AreNoMoreThanThereIsRoomFor) {
  const DeviceProfile profile = device(132, 227 << 10);
  for (const int n_tokens : {16, 32, 64, 128}) {
    for (const MmaShape& shape : {MmaShape{n_tokens, 256, 16, false}, MmaShape{n_tokens, 384, 16, false},
                                  MmaShape{n_tokens, 256, 56, false}, MmaShape{n_tokens, 96, 35, false}}) {
      const WidePlan plan = plan_wide(shape, {shape.n_slots, 2304}, kH200Room, profile);
      EXPECT_GE(plan.cluster, 1);
      EXPECT_LE(plan.slot_groups * plan.token_groups, kH200Room.clusters[plan.cluster])
          << shape.n_slots << " panels, " << n_tokens << " tokens";
    }
  }
}

// Of an 8B model on an H200 every SM has work, and its warps equal shares of it.
TEST(StreamInt8Plan, AnEightBillionModel_OnAnH200) {
  DeviceProfile profile = device(132, 227 << 10);
  profile.stream_int8_tokens = 1;
  const auto tiles_of_slowest_warp = [&](int n_slots, int n_k_tiles, bool swiglu) {
    const StreamPlan plan = plan_stream_int8({1, n_slots, n_k_tiles, swiglu}, 2304, false, profile);
    EXPECT_EQ(plan.n_ctas, 132);
    EXPECT_LE(plan.shared_bytes + 2048, 228 << 10);
    const int n_groups = swiglu ? n_slots / 2 : n_slots, per_cta = (n_groups + 131) / 132 * (swiglu ? 2 : 1);
    return (per_cta * plan.shape.n_segments + plan.shape.n_warps - 1) / plan.shape.n_warps * plan.shape.segment_chunks;
  };
  EXPECT_EQ(tiles_of_slowest_warp(384, 16, false), 3);    // queries, keys and values: three panels an SM
  EXPECT_EQ(tiles_of_slowest_warp(256, 16, false), 2);    // attention output
  EXPECT_EQ(tiles_of_slowest_warp(1792, 16, true), 14);   // gate and up
  EXPECT_LE(tiles_of_slowest_warp(256, 56, false), 8);    // down
  EXPECT_LE(tiles_of_slowest_warp(8016, 16, false), 64);  // LM head
}

TEST(StreamInt8Plan, OneKernelsThresholds_AreNotAnothers) {
  DeviceProfile profile = device(132, 227 << 10);
  const MmaShape shape{1, 256, 16, false};
  EXPECT_EQ(plan_stream_int8(shape, 2304, false, profile).n_ctas, 0);  // a device without bulk copies
  profile.stream_int8_tokens = 1;
  EXPECT_EQ(plan_stream_int8(shape, 2304, false, profile).n_ctas, 132);
  EXPECT_EQ(plan_stream_int8({2, 256, 16, false}, 2304, false, profile).n_ctas, 0);
  profile.mma_warps_m = 2;
  EXPECT_EQ(plan_stream_int8(shape, 2304, false, profile).n_ctas, 0);
}

}  // namespace
}  // namespace spate::cuda
