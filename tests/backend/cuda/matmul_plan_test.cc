// How products are cut up, for devices and models that this machine does not have.
#include "backend/cuda/matmul_plan.h"

#include <gtest/gtest.h>

#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_stream.h"

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
                      StreamLayout::of(plan.shape, n_k_tiles, shared_tokens_log2(1, n_tokens)).n_bytes);
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

}  // namespace
}  // namespace spate::cuda
