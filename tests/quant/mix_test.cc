// The choice of types, against what published files of well-known models have.
#include "quant/mix.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>

namespace spate {
namespace {

using enum QuantType;

constexpr MixModel kQwen1_5B{.n_layers = 28, .gqa_group = 6, .n_experts = 0, .tied_output = true};
constexpr MixModel kLlama8B{.n_layers = 32, .gqa_group = 4, .n_experts = 0, .tied_output = false};
constexpr MixModel kLlama2_7B{.n_layers = 32, .gqa_group = 1, .n_experts = 0, .tied_output = false};
constexpr MixModel kLlama70B{.n_layers = 80, .gqa_group = 8, .n_experts = 0, .tied_output = false};
constexpr MixModel kMixtral{.n_layers = 32, .gqa_group = 4, .n_experts = 8, .tied_output = false};

QuantType choose(const char* mix, const MixModel& model, std::string_view name, int64_t n_cols = 4096) {
  return choose_type(*find_mix(mix), model, name, n_cols);
}

// The layers whose `tensor` gets `type`: "0 1 4".
std::string layers_with(const char* mix, const MixModel& model, const char* tensor, QuantType type) {
  std::string layers;
  for (int layer = 0; layer < model.n_layers; ++layer)
    if (choose(mix, model, fmt::format("blk.{}.{}.weight", layer, tensor)) == type)
      layers += fmt::format("{}{}", layers.empty() ? "" : " ", layer);
  return layers;
}

TEST(Mix, Q4KM_RaisesValuesAndDownProjectionsOfHalfTheLayers) {
  const std::string raised = "0 1 2 3 6 9 12 15 18 21 24 27 28 29 30 31";
  EXPECT_EQ(layers_with("Q4_K_M", kLlama8B, "attn_v", kQ6_K), raised);
  EXPECT_EQ(layers_with("Q4_K_M", kLlama8B, "ffn_down", kQ6_K), raised);
  EXPECT_EQ(layers_with("Q5_K_M", kLlama8B, "ffn_down", kQ6_K), raised);
  EXPECT_EQ(layers_with("Q4_K_M", kQwen1_5B, "attn_v", kQ6_K), "0 1 2 5 8 11 14 17 20 23 24 25 26 27");
  for (const char* other : {"attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"})
    EXPECT_EQ(choose("Q4_K_M", kLlama8B, fmt::format("blk.0.{}.weight", other)), kQ4_K) << other;
}

TEST(Mix, SmallVariants_RaiseTheFirstLayersOnly) {
  EXPECT_EQ(layers_with("Q4_K_S", kLlama8B, "attn_v", kQ5_K), "0 1 2 3");
  EXPECT_EQ(layers_with("Q4_K_S", kQwen1_5B, "ffn_down", kQ5_K), "0 1 2");
  EXPECT_EQ(layers_with("Q3_K_M", kLlama8B, "attn_v", kQ5_K), "0 1");
  EXPECT_EQ(layers_with("Q3_K_M", kLlama8B, "ffn_down", kQ5_K), "0 1");
  EXPECT_EQ(choose("Q3_K_M", kLlama8B, "blk.9.attn_v.weight"), kQ4_K);
  EXPECT_EQ(choose("Q3_K_M", kLlama8B, "blk.9.ffn_down.weight"), kQ4_K);
  EXPECT_EQ(choose("Q3_K_M", kLlama8B, "blk.9.attn_output.weight"), kQ4_K);
  EXPECT_EQ(choose("Q3_K_L", kLlama8B, "blk.9.attn_output.weight"), kQ5_K);
  for (const char* tensor : {"attn_v", "ffn_down", "attn_output", "attn_q"})
    EXPECT_EQ(choose("Q3_K_S", kLlama8B, fmt::format("blk.0.{}.weight", tensor)), kQ3_K) << tensor;
}

TEST(Mix, SharedKvHeads_GetBetterValues) {
  EXPECT_EQ(choose("Q2_K", kLlama8B, "blk.9.attn_v.weight"), kQ4_K);
  EXPECT_EQ(choose("Q2_K", kLlama2_7B, "blk.9.attn_v.weight"), kQ3_K);
  EXPECT_EQ(choose("Q2_K_S", kLlama8B, "blk.9.attn_v.weight"), kQ4_K);
  EXPECT_EQ(choose("Q2_K_S", kLlama2_7B, "blk.9.attn_v.weight"), kQ2_K);
  EXPECT_EQ(choose("IQ4_XS", kLlama8B, "blk.9.attn_v.weight"), kQ5_K);
  EXPECT_EQ(choose("IQ4_XS", kLlama2_7B, "blk.9.attn_v.weight"), kIQ4_XS);
  EXPECT_EQ(layers_with("IQ4_NL", kLlama8B, "ffn_down", kQ5_K), "0 1 2 3");
  EXPECT_EQ(choose("Q4_K_M", kLlama70B, "blk.10.attn_v.weight"), kQ5_K);  // would be Q4_K
  EXPECT_EQ(choose("Q4_K_M", kLlama70B, "blk.0.attn_v.weight"), kQ6_K);
}

TEST(Mix, OutputMatrix_IsQ6KOrTheMixsOwnIfThatIsBetter) {
  for (const char* mix : {"Q4_0", "Q4_K_M", "Q2_K", "Q5_1", "IQ4_XS", "Q6_K"}) {
    EXPECT_EQ(choose(mix, kLlama8B, "output.weight"), kQ6_K) << mix;
    EXPECT_EQ(choose(mix, kLlama8B, "token_embd.weight"), find_mix(mix)->base) << mix;
    EXPECT_EQ(choose(mix, kQwen1_5B, "token_embd.weight"), kQ6_K) << mix;  // tied: it is the output matrix
  }
  EXPECT_EQ(choose("Q8_0", kLlama8B, "output.weight"), kQ8_0);
  EXPECT_EQ(choose("F16", kLlama8B, "output.weight"), kF16);
}

TEST(Mix, EightExperts_GetBetterAttention) {
  EXPECT_EQ(choose("Q4_K_M", kMixtral, "blk.9.attn_k.weight"), kQ8_0);
  EXPECT_EQ(choose("Q4_0", kMixtral, "blk.9.attn_v.weight"), kQ8_0);
  EXPECT_EQ(choose("Q4_K_M", kMixtral, "blk.9.attn_output.weight"), kQ5_K);
  EXPECT_EQ(choose("Q3_K_L", kMixtral, "blk.9.attn_output.weight"), kQ3_K);
  EXPECT_EQ(choose("Q4_K_M", kMixtral, "blk.0.ffn_down_exps.weight"), kQ6_K);
  EXPECT_EQ(choose("Q4_K_M", kMixtral, "blk.4.ffn_down_exps.weight"), kQ4_K);
}

TEST(Mix, RowsThatQblocksDoNotDivide_FallBack) {
  constexpr MixModel kQwen0_5B{.n_layers = 24, .gqa_group = 7, .n_experts = 0, .tied_output = true};
  EXPECT_EQ(choose("Q4_K_M", kQwen0_5B, "blk.9.attn_q.weight", 896), kQ5_0);
  EXPECT_EQ(choose("Q4_K_M", kQwen0_5B, "blk.0.attn_v.weight", 896), kQ8_0);  // Q6_K
  EXPECT_EQ(choose("Q5_K_S", kQwen0_5B, "blk.9.attn_q.weight", 896), kQ5_1);
  EXPECT_EQ(choose("Q3_K_S", kQwen0_5B, "blk.9.attn_q.weight", 896), kIQ4_NL);
  EXPECT_EQ(choose("Q2_K", kQwen0_5B, "blk.9.ffn_up.weight", 896), kIQ4_NL);
  EXPECT_EQ(choose("IQ4_XS", kQwen0_5B, "blk.9.attn_q.weight", 896), kIQ4_NL);
  EXPECT_EQ(choose("Q3_K_M", kQwen0_5B, "token_embd.weight", 896), kQ8_0);
  EXPECT_EQ(choose("Q4_0", kQwen0_5B, "blk.9.attn_q.weight", 896), kQ4_0);
  EXPECT_EQ(choose("Q4_0", kQwen0_5B, "token_embd.weight", 896), kQ8_0);
  EXPECT_EQ(choose("Q4_K_M", kQwen0_5B, "blk.9.ffn_down.weight", 4864), kQ4_K);
  for (const char* mix : {"Q4_0", "Q4_K_M", "Q8_0", "IQ4_NL", "Q2_K"}) {
    EXPECT_EQ(choose(mix, kQwen0_5B, "blk.9.attn_q.weight", 80), kF16) << mix;
    EXPECT_EQ(choose(mix, kQwen0_5B, "token_embd.weight", 80), kF16) << mix;
  }
}

TEST(Mix, EveryChoice_FitsTheRows) {
  for (const Mix& mix : all_mixes())
    for (const MixModel& model : {kQwen1_5B, kLlama8B, kLlama2_7B, kLlama70B, kMixtral})
      for (int64_t n_cols : {1, 31, 32, 64, 96, 256, 480, 512, 896, 4096})
        for (const char* name : {"token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
                                 "blk.1.attn_v.weight", "blk.3.attn_output.weight", "blk.5.ffn_down.weight",
                                 "blk.0.attn_qkv.weight", "blk.31.ffn_up_exps.weight", "anything.weight"}) {
          const QuantType type = choose_type(mix, model, name, n_cols);
          EXPECT_EQ(n_cols % quant_traits(type).block_elems, 0) << mix.name << " " << name << " " << n_cols;
        }
}

TEST(Mix, NormsRoutersAndVectors_AreLeftAlone) {
  EXPECT_TRUE(is_quantised_in_mixes("blk.0.ffn_down.weight", 2));
  EXPECT_TRUE(is_quantised_in_mixes("blk.0.ffn_down_exps.weight", 3));
  EXPECT_FALSE(is_quantised_in_mixes("blk.0.attn_norm.weight", 1));
  EXPECT_FALSE(is_quantised_in_mixes("blk.0.attn_q_norm.weight", 2));
  EXPECT_FALSE(is_quantised_in_mixes("blk.0.attn_q.bias", 1));
  EXPECT_FALSE(is_quantised_in_mixes("blk.0.ffn_gate_inp.weight", 2));
  EXPECT_FALSE(is_quantised_in_mixes("rope_freqs.weight", 1));
}

TEST(Mix, FindByName_IgnoresCase) {
  ASSERT_NE(find_mix("q4_k_m"), nullptr);
  EXPECT_EQ(find_mix("q4_k_m")->name, "Q4_K_M");
  EXPECT_EQ(find_mix("q4_k_m")->file_type, 15u);
  EXPECT_EQ(find_mix("Q4_K"), nullptr);  // a type, and no mix of that name
  EXPECT_EQ(find_mix(""), nullptr);
}

}  // namespace
}  // namespace spate
