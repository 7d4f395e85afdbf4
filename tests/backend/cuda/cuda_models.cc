#include "cuda_models.h"

#include <gtest/gtest.h>
#include <random>

namespace spate::cuda::testing {

const std::vector<NamedModel>& random_models() {
  using enum QuantType;
  static const std::vector<NamedModel> models = {
      {"llama_f32", {}},
      {"llama_gqa8_divisors_partial_rope",
       {.n_heads = 8, .n_kv_heads = 1, .head_dim = 64, .rotary_dim = 32, .rope_divisors = true}},
      {"llama_odd_sizes_f16",
       {.d_model = 72,
        .d_ff = 100,
        .n_heads = 3,
        .n_kv_heads = 3,
        .head_dim = 80,
        .vocab_size = 77,
        .types = {kF16, kBF16}}},
      {"llama_every_type", {.n_layers = 3, .types = {all_quant_types().begin(), all_quant_types().end()}}},
      {"llama_small_blocks",
       {.d_model = 96,
        .d_ff = 160,
        .n_heads = 6,
        .n_kv_heads = 2,
        .head_dim = 96,
        .vocab_size = 99,
        .tied = true,
        .types = {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kIQ4_NL}}},
      {"qwen2_gqa7_bias_tied_k_quants",
       {.architecture = "qwen2",
        .n_heads = 14,
        .n_kv_heads = 2,
        .tied = true,
        .types = {kQ4_K, kQ6_K, kQ5_K, kQ2_K, kQ3_K, kIQ4_XS}}},
      {"qwen3_norms_wide_heads",
       {.architecture = "qwen3", .n_heads = 4, .n_kv_heads = 4, .head_dim = 128, .types = {kQ8_0}}},
      {"llama_widest_heads", {.n_heads = 4, .n_kv_heads = 2, .head_dim = 256, .types = {kQ4_K, kQ6_K}}},
  };
  return models;
}

std::shared_ptr<const Model> open_model(const std::string& path) {
  Result<std::shared_ptr<const Model>> model = Model::open(path);
  EXPECT_TRUE(model.ok()) << model.error().message;
  return model.ok() ? *model : nullptr;
}

std::shared_ptr<const Model> make_model(const spate::testing::RandomModel& model, const std::string& path) {
  const Result<void> written = spate::testing::random_model(model).write(path);
  EXPECT_TRUE(written.ok()) << written.error().message;
  return open_model(path);
}

std::unique_ptr<CudaExecutor> make_executor(const std::shared_ptr<const Model>& model, const ExecutorLimits& limits,
                                            const std::function<void(CudaExecutorOptions&)>& change) {
  Result<DeviceProfile> profile = probe_device(0);
  EXPECT_TRUE(profile.ok()) << profile.error().message;
  if (!profile.ok()) return nullptr;
  CudaExecutorOptions options{.limits = limits, .profile = *profile, .n_threads = 2};
  change(options);
  auto executor = make_cuda_executor(model, options);
  EXPECT_TRUE(executor.ok()) << executor.error().message;
  return executor.ok() ? std::move(*executor) : nullptr;
}

std::vector<int32_t> random_tokens(int n, int vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab_size);
  return tokens;
}

}  // namespace spate::cuda::testing
