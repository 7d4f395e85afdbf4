#include "backend/cuda/device_profile.h"

#include <gtest/gtest.h>

namespace spate::cuda::testing {
namespace {

TEST(DeviceProfile, Tune_SetsThresholdsAndSwitches) {
  DeviceProfile profile;
  profile.capability = 90;
  EXPECT_TRUE(profile.tune("gemm_min_tokens=4096").ok());
  EXPECT_EQ(profile.gemm_min_tokens, 4096);
  EXPECT_TRUE(profile.tune("graphs=0").ok());
  EXPECT_FALSE(profile.graphs);
  EXPECT_TRUE(profile.tune("dependent_launch=1").ok());
  EXPECT_TRUE(profile.dependent_launch);
  EXPECT_TRUE(profile.tune("attention_cluster=8").ok());
  EXPECT_EQ(profile.attention_cluster, 8);
  EXPECT_FALSE(profile.tune("attention_cluster=6").ok());
  EXPECT_TRUE(profile.tune("stream_k_split=4").ok());
  EXPECT_EQ(profile.stream_k_split, 4);
  EXPECT_TRUE(profile.tune("stream_k_split_always=1").ok());
  EXPECT_TRUE(profile.stream_k_split_always);
  EXPECT_FALSE(profile.tune("stream_k_split=3").ok());
}

TEST(DeviceProfile, Tune_RefusesUnknownNamesAndValuesByName) {
  DeviceProfile profile;
  profile.capability = 80;
  profile.name = "Card";
  const DeviceProfile before = profile;
  const auto expect_refused = [&](std::string_view assignment, std::string_view part) {
    const Result<void> result = profile.tune(assignment);
    ASSERT_FALSE(result.ok()) << assignment;
    EXPECT_EQ(result.error().code, ErrorCode::kUsage) << assignment;
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  expect_refused("speed=11", "gemm_min_tokens");  // names what there is
  expect_refused("", "gemm_min_tokens");
  expect_refused("gemm_min_tokens", "whole number");
  expect_refused("gemm_min_tokens=", "whole number");
  expect_refused("gemm_min_tokens=0", "from 1");
  expect_refused("gemm_min_tokens=12x", "'12x'");
  expect_refused("gemm_min_tokens=99999999999", "whole number");
  expect_refused("graphs=2", "from 0 to 1");
  expect_refused("dependent_launch=1", "Card has no such launches");
  expect_refused("attention_cluster=4", "came with capability 9.0");
  expect_refused("stream_k_split=2", "came with capability 9.0");
  expect_refused("attention_cluster=9", "from 0 to 8");
  expect_refused("wide_cluster=0", "from 1 to 8");
  EXPECT_EQ(profile.gemm_min_tokens, before.gemm_min_tokens);
  EXPECT_EQ(profile.graphs, before.graphs);
}

TEST(DeviceProfile, PrefillInFp8_NeedsADeviceThatHasIt) {
  DeviceProfile profile;
  profile.name = "Card";
  profile.capability = 90;
  profile.gemm_min_tokens = 2048;
  ASSERT_TRUE(profile.set_prefill_precision("fp8").ok());
  EXPECT_TRUE(profile.prefill_fp8);
  EXPECT_LT(profile.gemm_min_tokens, 512) << "it pays from fewer tokens on than float16 does";
  ASSERT_TRUE(profile.set_prefill_precision("f16").ok());
  EXPECT_FALSE(profile.prefill_fp8);
  EXPECT_EQ(profile.set_prefill_precision("int8").error().code, ErrorCode::kUsage);
  profile.capability = 86;
  const Result<void> refused = profile.set_prefill_precision("fp8");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_NE(refused.error().message.find("Card cannot multiply in FP8"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(profile.set_prefill_precision("f16").ok());
}

TEST(ProbeDevice, NoSuchDevice_IsUnsupported) {
  for (const int device : {-1, 4096}) {
    const Result<DeviceProfile> profile = probe_device(device);
    ASSERT_FALSE(profile.ok());
    EXPECT_EQ(profile.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(profile.error().message.find("CUDA device"), std::string::npos) << profile.error().message;
  }
}

}  // namespace
}  // namespace spate::cuda::testing
