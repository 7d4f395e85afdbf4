// What an executor takes of a device's memory, what it refuses, and how a failing device ends.
#include <gtest/gtest.h>

#include "backend/cuda/activations.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/memory_plan.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::score_tokens;
using spate::testing::TemporaryFolder;

constexpr ExecutorLimits kLimits{.max_seqs = 4, .max_step_tokens = 64, .n_pages = 32};

// A device that need not be there: planning asks it nothing.
DeviceProfile some_device() {
  DeviceProfile profile;
  profile.name = "Card";
  profile.n_sms = 100;
  profile.shared_bytes_per_block = 200 << 10;
  return profile;
}

class MemoryPlanning : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_ = make_model({.types = {QuantType::kQ4_K}}, folder_.path("model.gguf"));
  DeviceProfile profile_ = some_device();
};

TEST_F(MemoryPlanning, GivenPages_SizesAddUp) {
  const Result<MemoryPlan> plan = plan_memory(*model_, kLimits, KvType::kF16, profile_, int64_t{1} << 40);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(plan->weight_bytes, weight_memory_bytes(*model_));
  // 2 layers x 2 KV heads x keys and values x 32 tokens x 64 dimensions x 2 bytes
  EXPECT_EQ(plan->kv_page_bytes, 2 * 2 * 2 * 32 * 64 * 2);
  EXPECT_EQ(plan->kv_bytes(), 32 * plan->kv_page_bytes);
  EXPECT_EQ(plan->kv_tokens(), 1024);
  EXPECT_EQ(plan->total_bytes(), plan->weight_bytes + plan->kv_bytes() + plan->workspace_bytes);
  EXPECT_NE(describe(*plan).find("1024 tokens of 1.0 KB, f16"), std::string::npos) << describe(*plan);
}

TEST_F(MemoryPlanning, SmallerKvTypes_TakeLess) {
  const auto page_bytes = [&](KvType type) {
    return plan_memory(*model_, kLimits, type, profile_, int64_t{1} << 40)->kv_page_bytes;
  };
  EXPECT_EQ(page_bytes(KvType::kFp8) * 2, page_bytes(KvType::kF16));
  EXPECT_EQ(page_bytes(KvType::kQ8_0) * 64, page_bytes(KvType::kF16) * 34);  // a float16 scale for 32 bytes
}

TEST_F(MemoryPlanning, PrefillInFp8_TakesRoomForItsActivations) {
  profile_.gemm_min_tokens = 512;
  ExecutorLimits limits = kLimits;
  limits.max_step_tokens = 512;
  const auto workspace = [&] {
    return plan_memory(*model_, limits, KvType::kF16, profile_, int64_t{1} << 40)->workspace_bytes;
  };
  const int64_t without = workspace();
  profile_.prefill_fp8 = true;
  const ModelSpec& spec = model_->spec();
  const int widest = std::max({spec.d_model, spec.q_dim(), spec.d_ff});
  // A byte an activation, and a factor a token.
  EXPECT_EQ(workspace() - without, 512 * padded_cols(widest) + 512 * 4);
  limits.max_step_tokens = 511;
  const int64_t short_steps = workspace();
  profile_.prefill_fp8 = false;
  EXPECT_EQ(short_steps, workspace()) << "no step is long enough for it";
}

TEST_F(MemoryPlanning, NoPagesGiven_TakesAllThatIsLeft) {
  ExecutorLimits limits = kLimits;
  limits.n_pages = 0;
  const int64_t available = int64_t{1} << 30;
  const Result<MemoryPlan> plan = plan_memory(*model_, limits, KvType::kF16, profile_, available);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_LE(plan->total_bytes(), available);
  EXPECT_GT(plan->limits.n_pages, 1000);
  EXPECT_LT(available - plan->total_bytes(), available / 50) << "what a page more would have taken, and a little";
}

TEST_F(MemoryPlanning, DoesNotFit_IsRefusedWithSizesAndAdvice) {
  const auto refusal = [&](const ExecutorLimits& limits, KvType type, int64_t available) {
    const Result<MemoryPlan> plan = plan_memory(*model_, limits, type, profile_, available);
    EXPECT_FALSE(plan.ok());
    if (plan.ok()) return std::string();
    EXPECT_EQ(plan.error().code, ErrorCode::kOutOfResources);
    return plan.error().message;
  };
  const std::string weights = refusal(kLimits, KvType::kF16, 1000);
  EXPECT_NE(weights.find("smaller model"), std::string::npos) << weights;
  EXPECT_NE(weights.find("Card has 0.00 GB free"), std::string::npos) << weights;
  const std::string workspace = refusal(kLimits, KvType::kF16, weight_memory_bytes(*model_) + 1000);
  EXPECT_NE(workspace.find("fewer tokens a step"), std::string::npos) << workspace;
  ExecutorLimits large = kLimits;
  large.n_pages = 1 << 20;
  const std::string pages = refusal(large, KvType::kF16, int64_t{4} << 30);
  EXPECT_NE(pages.find("smaller context"), std::string::npos) << pages;
  EXPECT_NE(pages.find("--kv-type q8_0"), std::string::npos) << pages;
  EXPECT_NE(pages.find("KV cache 34.36 GB (33554432 tokens"), std::string::npos) << pages;
  EXPECT_EQ(refusal(large, KvType::kFp8, int64_t{4} << 30).find("--kv-type"), std::string::npos);
}

TEST(KvTypes, NamesRoundTrip) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kFp8})
    EXPECT_EQ(*kv_type_from_name(kv_type_name(type)), type);
  EXPECT_EQ(kv_type_from_name("q4_0").error().code, ErrorCode::kUsage);
}

TEST(CudaMemory, ArenasAndPinnedBlocks_AreCounted) {
  SPATE_REQUIRE_GPU();
  const int64_t before = n_allocations();
  DeviceArena arena("a test", 1000, true);
  const PinnedMemory pinned("a test", 1000);
  EXPECT_EQ(n_allocations(), before + 2);
  const auto* first = arena.take<float>(3);
  const auto* second = arena.take<float>(1);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(second) - reinterpret_cast<const std::byte*>(first), kAlignment);
  EXPECT_EQ(arena.used_bytes(), 2 * kAlignment);
}

TEST(CudaMemory, MoreThanTheDeviceHas_IsRefusedByTheExecutor) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.n_layers = 1}, folder.path("model.gguf"));
  ExecutorLimits limits = kLimits;
  limits.n_pages = 1 << 28;
  const auto executor = make_cuda_executor(model, {.limits = limits, .profile = *probe_device(0)});
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.error().code, ErrorCode::kOutOfResources);
}

TEST(CudaMemory, PagesFromTheMemoryLeft_AreThereAndRun) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.types = {QuantType::kQ8_0}}, folder.path("model.gguf"));
  ExecutorLimits limits = kLimits;
  limits.n_pages = 0;
  const auto executor = make_executor(model, limits);
  ASSERT_NE(executor, nullptr);
  EXPECT_GT(executor->limits().n_pages, 1000);
  EXPECT_EQ(executor->memory().limits.n_pages, executor->limits().n_pages);
  // The pool's last pages.
  const auto first_page = static_cast<int32_t>(executor->limits().n_pages - 4);
  EXPECT_EQ(score_tokens(*executor, random_tokens(100, 320, 1), {.first_page = first_page}).best.size(), 100u);
}

TEST(CudaShapes, HeadSizeWithoutKernels_IsUnsupportedByName) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.head_dim = 24}, folder.path("model.gguf"));
  const auto executor = make_cuda_executor(model, {.limits = kLimits, .profile = *probe_device(0)});
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(executor.error().message.find("head size of 24"), std::string::npos) << executor.error().message;
}

TEST(CudaCheck, Fault_NamesOperationSizesErrorAndPlace) {
  try {
    SPATE_CUDA(cudaErrorInvalidValue, "reading {} bytes", 12);
    FAIL();
  } catch (const CudaError& error) {
    EXPECT_EQ(error.code(), cudaErrorInvalidValue);
    const std::string message = error.what();
    for (const char* part : {"reading 12 bytes", "invalid argument", "cudaErrorInvalidValue", "memory_test.cc:"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace spate::cuda::testing
