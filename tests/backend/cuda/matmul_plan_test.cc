// How products are cut up, for devices and models that this machine does not have.
#include "backend/cuda/matmul_plan.h"

#include <gtest/gtest.h>

#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_gemv.h"
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
    profile.stream_tokens = 8;
    for (int n_k_tiles = 1; n_k_tiles <= 256; n_k_tiles += n_k_tiles < 24 ? 1 : 23) {
      for (const int n_slots : {2, 3 * 32, 256, 896 * 2, 8016, 16384}) {
        for (int n_tokens = 1; n_tokens <= 8; ++n_tokens) {
          for (const bool swiglu : {false, true}) {
            SCOPED_TRACE(::testing::Message() << profile.n_sms << " SMs, " << n_slots << " panels, " << n_k_tiles
                                              << " K tiles, " << n_tokens << " tokens");
            const StreamPlan plan = plan_stream({n_tokens, n_slots, n_k_tiles, swiglu}, profile);
            const int activations = (n_k_tiles * kTokenTileBytes) << shared_tokens_log2(1, n_tokens);
            if (plan.n_ctas == 0) {
              ASSERT_GT(activations, profile.shared_bytes_per_block - (64 << 10));
              continue;
            }
            ASSERT_LE(plan.n_ctas, profile.n_sms);
            ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block - 1024);
            ASSERT_EQ(plan.shared_bytes,
                      StreamLayout::of(plan.shape, float16_stream(n_k_tiles, shared_tokens_log2(1, n_tokens)),
                                       shared_tokens_log2(1, n_tokens))
                          .n_bytes);
            ASSERT_GE(plan.shape.n_stages, 2);
            ASSERT_LE(plan.shape.n_warps, kMaxStreamWarps);
            ASSERT_LE(plan.shape.n_segments, plan.shape.n_warps);
            ASSERT_GE(plan.shape.n_segments * plan.shape.segment_chunks, n_k_tiles * kChunksPerTile);
            ASSERT_LT((plan.shape.n_segments - 1) * plan.shape.segment_chunks, n_k_tiles * kChunksPerTile);
            ASSERT_GE(plan.shape.n_segments << plan.shape.places_log2, 2 * plan.shape.n_warps);
          }
        }
      }
    }
  }
}

TEST(StreamPlan, OneKernelsThresholds_AreNotAnothers) {
  DeviceProfile profile = device(132, 227 << 10);
  const MmaShape shape{1, 256, 16, false};
  EXPECT_EQ(plan_stream(shape, profile).n_ctas, 0);  // a device without bulk copies
  profile.stream_tokens = 1;
  EXPECT_EQ(plan_stream(shape, profile).n_ctas, 132);
  EXPECT_EQ(plan_stream({2, 256, 16, false}, profile).n_ctas, 0);
  profile.mma_warps_m = 2;
  EXPECT_EQ(plan_stream(shape, profile).n_ctas, 0);
}

// Rings of at least two tiles, segments that cover K, and half an SM's shared memory where K leaves warps enough.
TEST(StreamInt8Plan, EveryShape_FitsOrIsRefused) {
  int n_halves = 0, n_refused = 0;
  for (auto profile : {device(132, 227 << 10), device(148, 227 << 10), device(24, 99 << 10)}) {
    profile.stream_int8_tokens = 1;
    for (const int n_ctas : {1, 2}) {
      profile.stream_int8_ctas = n_ctas;
      for (const int n_warps : {4, 10, 15, 16}) {
        profile.stream_int8_warps = n_warps;
        for (int n_k_tiles = 1; n_k_tiles <= 600; n_k_tiles += n_k_tiles < 24 ? 1 : 64) {
          for (const int n_slots : {2, 3 * 32, 256, 896 * 2, 8016, 16384}) {
            for (const int tile_bytes : {1344, 2304, 3360, 4352}) {
              for (const int n_types : {1, 2}) {
                SCOPED_TRACE(::testing::Message()
                             << profile.n_sms << " SMs, " << n_warps << " warps, " << n_slots << " panels, "
                             << n_k_tiles << " K tiles of " << tile_bytes << " bytes, " << n_types << " types");
                const StreamPlan plan =
                    plan_stream_int8({1, n_slots, n_k_tiles, n_types == 1}, n_types, tile_bytes, profile);
                const StreamBytes bytes = int8_stream(n_k_tiles, n_types, tile_bytes);
                if (plan.n_ctas == 0) {
                  ++n_refused;
                  ASSERT_GT(bytes.activations, profile.shared_bytes_per_block - (48 << 10));
                  continue;
                }
                ASSERT_LE(plan.n_ctas, profile.n_sms);
                ASSERT_LE(plan.n_ctas, n_slots);
                ASSERT_EQ(plan.shared_bytes, StreamLayout::of(plan.shape, bytes, 0).n_bytes);
                ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block - 1024);
                if (2 * (plan.shared_bytes + 2048) <= profile.shared_bytes_per_block + 1024) {
                  ++n_halves;
                } else if (n_ctas == 2) {
                  ASSERT_GT(bytes.activations + 10 * 2 * tile_bytes, profile.shared_bytes_per_block / 2 - (8 << 10));
                }
                ASSERT_GE(plan.shape.n_stages, 2);
                ASSERT_LE(plan.shape.n_warps, std::min(n_warps, max_stream_int8_warps(tile_bytes, n_types == 2)));
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
  }
  EXPECT_GT(n_halves, 0);
  EXPECT_GT(n_refused, 0);
}

// Every product of 17 tokens and more on an H200 has a plan that fits, for tiles of every type's size.
TEST(WidePlan, EveryModel_FitsTheMemoryThatItWasPromised) {
  DeviceProfile profile = device(132, 227 << 10);
  profile.wide_min_tokens = 17;
  for (const auto& [d_model, d_ff] : {std::pair(896, 4864), std::pair(1536, 8960), std::pair(4096, 14336),
                                      std::pair(8192, 28672), std::pair(16384, 53248)}) {
    const int vocab = 262144, max_slots = vocab / kTileRows;
    const MmaMemory memory = mma_memory(max_slots, profile);
    const MmaShape products[] = {{0, 3 * d_model / kTileRows, (d_model + 255) / kTileCols, false},
                                 {0, d_model / kTileRows, (d_ff + 255) / kTileCols, false},
                                 {0, 2 * d_ff / kTileRows, (d_model + 255) / kTileCols, true},
                                 {0, max_slots, (d_model + 255) / kTileCols, false},
                                 {0, 1, 1, false}};
    for (MmaShape shape : products) {
      for (const int tile_bytes : {1344, 2304, 3360, 4352, 8192}) {
        for (const int n_tokens : {17, 32, 33, 64, 65, 128, 129, 300, 767, 2048}) {
          shape.n_tokens = n_tokens;
          const WidePlan plan = plan_wide(shape, tile_bytes, memory, profile);
          SCOPED_TRACE(::testing::Message() << shape.n_slots << " panels, " << shape.n_k_tiles << " K tiles of "
                                            << tile_bytes << " bytes, " << n_tokens << " tokens");
          ASSERT_NE(plan.tokens, 0);
          const int warps_m = 1 << plan.warps_m_log2, ctas = plan.slot_groups * plan.token_groups;
          ASSERT_GE(plan.slot_groups * warps_m, shape.n_slots);
          ASSERT_GE(plan.token_groups * plan.tokens, n_tokens);
          ASSERT_TRUE(plan.split_k >= 1 && plan.split_k <= shape.n_k_tiles) << plan.split_k;
          ASSERT_TRUE(plan.shape.x_stages >= 2 && plan.shape.weight_stages >= 2);
          const WideLayout at = WideLayout::of(plan.shape, plan.tokens, kWideWarps / warps_m, tile_bytes);
          ASSERT_GE(plan.shared_bytes, at.n_bytes + kWideAlignment);
          ASSERT_LE(plan.shared_bytes, profile.shared_bytes_per_block);
          if (plan.split_k == 1) continue;
          ASSERT_LE(ctas, memory.n_counters);
          ASSERT_LE(int64_t{ctas} * plan.split_k * plan.tokens * warps_m * kTileRows, memory.partial_elems);
        }
      }
    }
  }
}

// Of an 8B model on an H200 every SM has work, and its warps equal shares of it.
TEST(StreamInt8Plan, AnEightBillionModel_OnAnH200) {
  DeviceProfile profile = device(132, 227 << 10);
  profile.stream_int8_tokens = 1;
  const auto tiles_of_slowest_warp = [&](int n_slots, int n_k_tiles, bool swiglu) {
    const StreamPlan plan = plan_stream_int8({1, n_slots, n_k_tiles, swiglu}, 1, 2304, profile);
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
  EXPECT_EQ(plan_stream_int8(shape, 1, 2304, profile).n_ctas, 0);  // a device without bulk copies
  profile.stream_int8_tokens = 1;
  EXPECT_EQ(plan_stream_int8(shape, 1, 2304, profile).n_ctas, 132);
  EXPECT_EQ(plan_stream_int8({2, 256, 16, false}, 1, 2304, profile).n_ctas, 0);
  profile.mma_warps_m = 2;
  EXPECT_EQ(plan_stream_int8(shape, 1, 2304, profile).n_ctas, 0);
}

DeviceProfile with_gemv(DeviceProfile profile) {
  profile.gemv_tokens = kMaxGemvTokens;
  return profile;
}

TEST(GemvPlan, EveryShape_CoversItsPanelsAndFitsTwiceOnAnSm) {
  int n_refused = 0;
  for (auto profile : {device(132, 227 << 10), device(82, 99 << 10), device(24, 99 << 10)}) {
    profile = with_gemv(profile);
    for (const int n_warps : {0, 4, 8, 16}) {
      for (const int warps_m : {0, 1, 4, 16}) {
        profile.gemv_warps = n_warps;
        profile.gemv_warps_m = warps_m;
        for (int n_k_tiles = 1; n_k_tiles <= 208; n_k_tiles += n_k_tiles < 24 ? 1 : 23) {
          for (const auto& [n_slots, first_slots] :
               {std::pair(2, 2), std::pair(6, 1), std::pair(96, 80), std::pair(256, 256), std::pair(384, 318),
                std::pair(1792, 1792), std::pair(16384, 16384)}) {
            for (const int max_warps : {8, 16}) {
              for (const MmaShape& shape :
                   {MmaShape{1, n_slots, n_k_tiles, false}, MmaShape{2, n_slots, n_k_tiles, false},
                    MmaShape{1, n_slots, n_k_tiles, true}}) {
                if (shape.swiglu && first_slots != n_slots) continue;
                SCOPED_TRACE(::testing::Message()
                             << profile.n_sms << " SMs, " << n_warps << " warps, " << warps_m << " of rows, " << n_slots
                             << " panels, " << n_k_tiles << " K tiles, " << shape.n_tokens << " tokens");
                const GemvPlan plan = plan_gemv(shape, first_slots, max_warps, profile);
                if (plan.n_warps == 0) {
                  ++n_refused;
                  ASSERT_GT(2 * GemvLayout::of(shape.n_tokens, n_k_tiles, 8).n_bytes + (4 << 10),
                            profile.shared_bytes_per_block);
                  continue;
                }
                const int slots = 1 << plan.warps_m_log2;
                ASSERT_TRUE(plan.n_warps == 4 || plan.n_warps == 8 || plan.n_warps == 16);
                ASSERT_LE(plan.n_warps, max_warps);
                ASSERT_LE(slots, plan.n_warps);
                ASSERT_GE(slots, shape.swiglu ? 2 : 1);
                ASSERT_EQ(first_slots % slots, 0) << "a CTA with two types";
                ASSERT_GE(plan.n_ctas * slots, n_slots);
                ASSERT_LT((plan.n_ctas - 1) * slots, n_slots);
                ASSERT_LE(2 * plan.shared_bytes, profile.shared_bytes_per_block);
                ASSERT_EQ(plan.shared_bytes, GemvLayout::of(shape.n_tokens, n_k_tiles, plan.n_warps).n_bytes);
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(n_refused, 0);
}

// One wave of as many warps as there can be for small matrices; enough CTAs for every SM else.
TEST(GemvPlan, AnEightBillionModel_OnAnH200) {
  const DeviceProfile profile = with_gemv(device(132, 227 << 10));
  const auto plan = [&](int n_slots, int n_k_tiles, bool swiglu) {
    return plan_gemv({1, n_slots, n_k_tiles, swiglu}, n_slots, 16, profile);
  };
  EXPECT_EQ(plan(256, 16, false).n_warps, 16);
  EXPECT_EQ(plan(256, 16, false).n_ctas, 256);
  EXPECT_EQ(plan(384, 16, false).n_warps, 8);
  EXPECT_EQ(plan(384, 16, false).n_ctas, 384);
  EXPECT_EQ(plan(1792, 16, true).n_ctas, 896);
  EXPECT_EQ(plan(8016, 16, false).n_ctas, 1002);
}

TEST(GemvPlan, OtherThresholds_AskForOtherKernels) {
  DeviceProfile profile = with_gemv(device(132, 227 << 10));
  const MmaShape shape{2, 256, 16, false};
  EXPECT_GT(plan_gemv(shape, 256, 8, profile).n_warps, 0);
  EXPECT_EQ(plan_gemv({3, 256, 16, false}, 256, 8, profile).n_warps, 0);
  profile.mma_warps_m = 2;
  EXPECT_EQ(plan_gemv(shape, 256, 8, profile).n_warps, 0);
  profile.mma_warps_m = 0;
  profile.gemv_tokens = 1;
  EXPECT_EQ(plan_gemv(shape, 256, 8, profile).n_warps, 0);
}

}  // namespace
}  // namespace spate::cuda
