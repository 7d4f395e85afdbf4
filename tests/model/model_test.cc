// Files to specs and weights: what each architecture reads, and every way in which a file can contradict itself.
#include "model/model.h"

#include <cmath>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "model/all_weights.h"

#include "support/random_model.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

using ::testing::HasSubstr;

class ModelTest : public ::testing::Test {
 protected:
  Result<std::shared_ptr<const Model>> open(const GgufWriter& writer) {
    const Result<void> written = writer.write(path());
    EXPECT_TRUE(written.ok()) << written.error().message;
    return Model::open(path());
  }
  ModelSpec spec_of(const GgufWriter& writer) {
    const Result<std::shared_ptr<const Model>> model = open(writer);
    EXPECT_TRUE(model.ok()) << model.error().message;
    return model.ok() ? (*model)->spec() : ModelSpec();
  }
  std::string path() const { return folder_.path("model.gguf"); }

 private:
  TemporaryFolder folder_;
};

TEST_F(ModelTest, Llama_RandomModel_ReadsEveryHyperParameter) {
  const ModelSpec spec =
      spec_of(random_model({.n_layers = 3, .head_dim = 32, .rotary_dim = 16, .rope_divisors = true}));
  EXPECT_EQ(spec.architecture, "llama");
  EXPECT_EQ(spec.n_layers, 3);
  EXPECT_EQ(spec.d_model, 256);
  EXPECT_EQ(spec.d_ff, 512);
  EXPECT_EQ(spec.n_heads, 4);
  EXPECT_EQ(spec.n_kv_heads, 2);
  EXPECT_EQ(spec.gqa_group(), 2);
  EXPECT_EQ(spec.head_dim, 32);
  EXPECT_EQ(spec.q_dim(), 128);
  EXPECT_EQ(spec.kv_dim(), 64);
  EXPECT_EQ(spec.kv_elems_per_token(), 2 * 3 * 64);
  EXPECT_EQ(spec.vocab_size, 320);
  EXPECT_EQ(spec.context_length, 2048);
  EXPECT_FLOAT_EQ(spec.norm_epsilon, 1e-6f);
  EXPECT_FLOAT_EQ(spec.attention_scale, 1 / std::sqrt(32.0f));
  EXPECT_EQ(spec.rope.style, RopeStyle::kNorm);
  EXPECT_EQ(spec.rope.rotary_dim, 16);
  EXPECT_EQ(spec.rope.frequency_divisors.size(), 8u);
  EXPECT_FALSE(spec.has_qkv_bias);
  EXPECT_FALSE(spec.has_qk_norm);
  EXPECT_FALSE(spec.tied_embeddings);
}

TEST_F(ModelTest, Qwen2_RandomModel_HasBiasAndNeoxRope) {
  const ModelSpec spec = spec_of(random_model({.architecture = "qwen2", .tied = true}));
  EXPECT_TRUE(spec.has_qkv_bias);
  EXPECT_FALSE(spec.has_qk_norm);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_EQ(spec.rope.style, RopeStyle::kNeox);
}

TEST_F(ModelTest, Qwen3_RandomModel_HasQkNormAndItsOwnHeadSize) {
  const ModelSpec spec = spec_of(random_model({.architecture = "qwen3", .head_dim = 128}));
  EXPECT_TRUE(spec.has_qk_norm);
  EXPECT_FALSE(spec.has_qkv_bias);
  EXPECT_EQ(spec.head_dim, 128);  // d_model / n_heads would be 64
  EXPECT_EQ(spec.q_dim(), 512);
}

TEST_F(ModelTest, HeadSize_NotInMetadata_IsEmbeddingLengthOverHeads) {
  GgufWriter writer = random_model({});
  writer.remove("llama.attention.key_length");
  writer.remove("llama.attention.value_length");
  EXPECT_EQ(spec_of(writer).head_dim, 64);
}

TEST_F(ModelTest, SlidingWindow_ShorterThanContext_BoundsTheContext) {
  GgufWriter writer = random_model({});
  writer.set("llama.attention.sliding_window", uint32_t{512});
  EXPECT_EQ(spec_of(writer).context_length, 512);
}

TEST_F(ModelTest, WeightBytesPerToken_TiedModel_CountsTheEmbeddingOnceAsHead) {
  const Result<std::shared_ptr<const Model>> model =
      open(random_model({.architecture = "qwen2", .n_layers = 1, .tied = true}));
  ASSERT_TRUE(model.ok());
  const int64_t matrices = 256 * 256 + 2 * 256 * 128 + 256 * 256 + 3 * 256 * 512 + 320 * 256;
  const int64_t vectors = 256 + 128 + 128 + 3 * 256;
  EXPECT_EQ((*model)->weight_bytes_per_token(), 4 * (matrices + vectors));
}

// A weight that is bound and not listed would be missing from what is counted over all of them.
TEST_F(ModelTest, AllWeights_OfEachArchitecture_AreTheTensorsOfItsLayers) {
  for (const std::string architecture : {"llama", "qwen2", "qwen3"}) {
    const Result<std::shared_ptr<const Model>> model = open(random_model({.architecture = architecture}));
    ASSERT_TRUE(model.ok()) << model.error().message;
    std::set<const GgufTensor*> listed, of_layers;
    for (const LayerWeights& layer : (*model)->layers())
      for (const Weight* weight : all_weights(layer))
        if (*weight && !listed.insert(weight->tensor).second) ADD_FAILURE() << weight->tensor->name << " twice";
    for (const GgufTensor& tensor : (*model)->file().tensors())
      if (tensor.name.starts_with("blk.")) of_layers.insert(&tensor);
    EXPECT_EQ(listed, of_layers) << architecture;
  }
}

TEST_F(ModelTest, BundledModel_Opens) {
  const Result<std::shared_ptr<const Model>> model = Model::open(bundled_model_path());
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ((*model)->spec().n_layers, 8);
  EXPECT_EQ((*model)->layers()[7].ffn_down.n_cols, 1536);
}

TEST_F(ModelTest, VocabularyOnlyFile_IsRefusedAsAModel) {
  GgufWriter writer;
  writer.set("general.architecture", "qwen2");
  writer.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  const Result<std::shared_ptr<const Model>> model = open(writer);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(model.error().message, HasSubstr("model.gguf: has no tensors"));
}

// A model that is right but for one thing, and what its refusal must say.
struct Wrong {
  const char* name;
  ErrorCode code;
  const char* message;
  std::function<void(GgufWriter&)> spoil;
  RandomModel model = {.n_layers = 1};
};

void replace_vector(GgufWriter& writer, const char* name, int n, QuantType type = QuantType::kF32) {
  writer.remove_tensor(name);
  writer.add_tensor(name, type, {n}, std::vector<std::byte>(quant_bytes(type, n)));
}

const Wrong kWrong[] = {
    {"NoArchitecture", ErrorCode::kBadFile, "general.architecture",
     [](GgufWriter& w) { w.remove("general.architecture"); }},
    {"UnknownArchitecture", ErrorCode::kUnsupported, "'mamba'; spate runs: llama, qwen2, qwen3",
     [](GgufWriter& w) { w.set("general.architecture", "mamba"); }},
    {"ArchitectureIsNoString", ErrorCode::kBadFile, "general.architecture",
     [](GgufWriter& w) { w.set("general.architecture", uint32_t{7}); }},
    {"NoLayerCount", ErrorCode::kBadFile, "llama.block_count", [](GgufWriter& w) { w.remove("llama.block_count"); }},
    {"ZeroLayers", ErrorCode::kBadFile, "llama.block_count",
     [](GgufWriter& w) { w.set("llama.block_count", uint32_t{0}); }},
    {"TooManyLayers", ErrorCode::kBadFile, "llama.block_count",
     [](GgufWriter& w) { w.set("llama.block_count", uint32_t{1u << 31}); }},
    {"OneLayerMoreThanTensors", ErrorCode::kBadFile, "blk.1.attn_norm.weight",
     [](GgufWriter& w) { w.set("llama.block_count", uint32_t{2}); }},
    {"NegativeEmbeddingLength", ErrorCode::kBadFile, "llama.embedding_length",
     [](GgufWriter& w) { w.set("llama.embedding_length", int32_t{-256}); }},
    {"EmbeddingLengthOfFloat", ErrorCode::kBadFile, "llama.embedding_length",
     [](GgufWriter& w) { w.set("llama.embedding_length", 256.0f); }},
    {"NoFeedForwardLength", ErrorCode::kBadFile, "llama.feed_forward_length",
     [](GgufWriter& w) { w.remove("llama.feed_forward_length"); }},
    {"NoContextLength", ErrorCode::kBadFile, "llama.context_length",
     [](GgufWriter& w) { w.remove("llama.context_length"); }},
    {"NoHeads", ErrorCode::kBadFile, "llama.attention.head_count",
     [](GgufWriter& w) { w.remove("llama.attention.head_count"); }},
    {"KvHeadsDoNotDivide", ErrorCode::kBadFile, "does not divide",
     [](GgufWriter& w) { w.set("llama.attention.head_count_kv", uint32_t{3}); }},
    {"HeadsDoNotDivideEmbedding", ErrorCode::kBadFile, "llama.attention.key_length",
     [](GgufWriter& w) {
       w.remove("llama.attention.key_length");
       w.set("llama.attention.head_count", uint32_t{6});
     }},
    {"KeysAndValuesDiffer", ErrorCode::kUnsupported, "llama.attention.value_length",
     [](GgufWriter& w) { w.set("llama.attention.value_length", uint32_t{32}); }},
    {"NoEpsilon", ErrorCode::kBadFile, "layer_norm_rms_epsilon",
     [](GgufWriter& w) { w.remove("llama.attention.layer_norm_rms_epsilon"); }},
    {"EpsilonNotFinite", ErrorCode::kBadFile, "layer_norm_rms_epsilon",
     [](GgufWriter& w) { w.set("llama.attention.layer_norm_rms_epsilon", NAN); }},
    {"EpsilonNegative", ErrorCode::kBadFile, "layer_norm_rms_epsilon",
     [](GgufWriter& w) { w.set("llama.attention.layer_norm_rms_epsilon", -1e-5f); }},
    {"RopeBaseInfinite", ErrorCode::kBadFile, "rope.freq_base",
     [](GgufWriter& w) { w.set("llama.rope.freq_base", INFINITY); }},
    {"RopeBaseBeyondFloat", ErrorCode::kBadFile, "rope.freq_base",
     [](GgufWriter& w) { w.set("llama.rope.freq_base", 1e300); }},
    {"RopeBaseZero", ErrorCode::kBadFile, "rope.freq_base", [](GgufWriter& w) { w.set("llama.rope.freq_base", 0.0f); }},
    {"RotaryDimOdd", ErrorCode::kBadFile, "rope.dimension_count",
     [](GgufWriter& w) { w.set("llama.rope.dimension_count", uint32_t{63}); }},
    {"RotaryDimOverHead", ErrorCode::kBadFile, "rope.dimension_count",
     [](GgufWriter& w) { w.set("llama.rope.dimension_count", uint32_t{66}); }},
    {"RopeScalingUnknown", ErrorCode::kUnsupported, "longrope",
     [](GgufWriter& w) { w.set("llama.rope.scaling.type", "longrope"); }},
    {"RopeScalingFactorZero", ErrorCode::kBadFile, "rope.scaling.factor",
     [](GgufWriter& w) {
       w.set("llama.rope.scaling.type", "linear");
       w.set("llama.rope.scaling.factor", 0.0f);
     }},
    {"RopeDivisorsWrongCount", ErrorCode::kBadFile, "rope_freqs.weight",
     [](GgufWriter& w) { replace_vector(w, "rope_freqs.weight", 31); }},
    {"RopeDivisorsZero", ErrorCode::kBadFile, "rope_freqs.weight",
     [](GgufWriter& w) { replace_vector(w, "rope_freqs.weight", 32); }},
    {"Experts", ErrorCode::kUnsupported, "mixture of experts",
     [](GgufWriter& w) { w.set("llama.expert_count", uint32_t{8}); }},
    {"NoEmbedding", ErrorCode::kBadFile, "token_embd.weight",
     [](GgufWriter& w) { w.remove_tensor("token_embd.weight"); }},
    {"VocabularyLargerThanEmbedding", ErrorCode::kBadFile, "the vocabulary has 321 tokens",
     [](GgufWriter& w) { w.set("tokenizer.ggml.tokens", std::vector<std::string>(321, "x")); }},
    {"MissingTensor", ErrorCode::kBadFile, "blk.0.ffn_down.weight",
     [](GgufWriter& w) { w.remove_tensor("blk.0.ffn_down.weight"); }},
    {"NormOfWrongLength", ErrorCode::kBadFile, "blk.0.attn_norm.weight",
     [](GgufWriter& w) { replace_vector(w, "blk.0.attn_norm.weight", 128); }},
    {"MatrixOfWrongShape", ErrorCode::kBadFile,
     "tensor 'blk.0.attn_k.weight' is [256, 64, 1, 1]; the hyper-parameters make it [256, 128]",
     [](GgufWriter& w) {
       w.remove_tensor("blk.0.attn_k.weight");
       w.add_tensor("blk.0.attn_k.weight", QuantType::kQ4_0, {256, 64},
                    std::vector<std::byte>(quant_bytes(QuantType::kQ4_0, 256 * 64)));
     }},
    {"MatrixOfTypeNotRun", ErrorCode::kUnsupported, "tensor 'blk.0.attn_k.weight' has type IQ2_XXS",
     [](GgufWriter& w) {
       w.remove_tensor("blk.0.attn_k.weight");
       w.add_tensor("blk.0.attn_k.weight", static_cast<QuantType>(16), {256, 128},
                    std::vector<std::byte>(256 / 256 * 66 * 128));
     }},
    {"NormQuantised", ErrorCode::kUnsupported, "tensor 'output_norm.weight' has type Q8_0",
     [](GgufWriter& w) { replace_vector(w, "output_norm.weight", 256, QuantType::kQ8_0); }},
    {"TensorNobodyUses", ErrorCode::kUnsupported, "blk.0.attn_sinks.weight",
     [](GgufWriter& w) { replace_vector(w, "blk.0.attn_sinks.weight", 4); }},
    {"LlamaWithQkNorm", ErrorCode::kUnsupported, "blk.0.attn_q_norm.weight",
     [](GgufWriter& w) { replace_vector(w, "blk.0.attn_q_norm.weight", 64); }},
    {"BiasOnSomeLayers",
     ErrorCode::kBadFile,
     "1 of 2 layers",
     [](GgufWriter& w) { replace_vector(w, "blk.1.attn_q.bias", 256); },
     {.n_layers = 2}},
    {"Qwen2WithoutBias",
     ErrorCode::kBadFile,
     "blk.0.attn_v.bias",
     [](GgufWriter& w) { w.remove_tensor("blk.0.attn_v.bias"); },
     {.architecture = "qwen2", .n_layers = 1}},
    {"Qwen3WithoutNorm",
     ErrorCode::kBadFile,
     "blk.0.attn_k_norm.weight",
     [](GgufWriter& w) { w.remove_tensor("blk.0.attn_k_norm.weight"); },
     {.architecture = "qwen3", .n_layers = 1}},
};

class WrongModel : public ModelTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongModel, IsRefusedByName) {
  const Wrong& wrong = GetParam();
  GgufWriter writer = random_model(wrong.model);
  wrong.spoil(writer);
  const Result<std::shared_ptr<const Model>> model = open(writer);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, wrong.code) << model.error().message;
  EXPECT_THAT(model.error().message, HasSubstr(wrong.message));
  EXPECT_THAT(model.error().message, HasSubstr(path()));
  EXPECT_EQ(model.error().message.find('\n'), std::string::npos);
}

std::string wrong_name(const ::testing::TestParamInfo<Wrong>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Files, WrongModel, ::testing::ValuesIn(kWrong), wrong_name);

TEST_F(ModelTest, VectorValues_SixteenBitTypes_AreDecoded) {
  GgufWriter writer = random_model({.n_layers = 1});
  writer.remove_tensor("output_norm.weight");
  std::vector<std::byte> halves(512);
  for (size_t i = 0; i < halves.size(); i += 2) halves[i + 1] = std::byte{0x3c};  // 1.0 in f16
  writer.add_tensor("output_norm.weight", QuantType::kF16, {256}, halves);
  const Result<std::shared_ptr<const Model>> model = open(writer);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(vector_values((*model)->output_norm()), std::vector<float>(256, 1.0f));
}

}  // namespace
}  // namespace spate::testing
