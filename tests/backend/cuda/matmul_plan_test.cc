// How products are cut up, for devices and models that this machine does not have.
#include "backend/cuda/matmul_plan.h"

#include <gtest/gtest.h>

#include "backend/cuda/matmul_few.cuh"

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

}  // namespace
}  // namespace spate::cuda
