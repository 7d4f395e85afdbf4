// Files that other programs wrote.
#include <cctype>
#include <gtest/gtest.h>

#include "gguf/gguf_file.h"

#include "support/test_data.h"

namespace spate {
namespace {

TEST(RealFiles, BundledModel_HasItsMetadataAndTensors) {
  const Result<GgufFile> file = GgufFile::open(testing::bundled_model_path());
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->n_files(), 1);
  EXPECT_EQ(file->total_bytes(), 21958656u);
  EXPECT_EQ(file->metadata().size(), 24u);
  EXPECT_EQ(file->tensors().size(), 98u);
  const std::string architecture(**file->string("general.architecture"));
  const int64_t n_layers = **file->integer(architecture + ".block_count", 1, 1000);
  const int64_t d_model = **file->integer(architecture + ".embedding_length", 1, 1 << 20);
  const GgufTensor* embedding = file->find_tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->n_dims, 2);
  EXPECT_EQ(embedding->dims[0], d_model);
  const GgufArray* tokens = *file->array("tokenizer.ggml.tokens");
  ASSERT_NE(tokens, nullptr);
  EXPECT_EQ(static_cast<int64_t>(tokens->strings.size()), embedding->dims[1]);
  EXPECT_NE(file->find_tensor(fmt::format("blk.{}.attn_norm.weight", n_layers - 1)), nullptr);
  EXPECT_EQ(file->find_tensor(fmt::format("blk.{}.attn_norm.weight", n_layers)), nullptr);
  for (const GgufTensor& tensor : file->tensors())
    EXPECT_EQ(static_cast<int64_t>(tensor.data.size()), quant_bytes(tensor.type, tensor.n_elems())) << tensor.name;
  EXPECT_TRUE(file->check_intact().ok());
}

class SharedFile : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedFile, Opens) {
  SPATE_REQUIRE_SHARED(GetParam());
  const Result<GgufFile> file = GgufFile::open(testing::shared_path(GetParam()));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_GE(file->metadata().size(), 10u);
  ASSERT_NE(*file->array("tokenizer.ggml.tokens"), nullptr);
  EXPECT_GT((*file->array("tokenizer.ggml.tokens"))->strings.size(), 100u);
  const bool vocabulary_only = std::string_view(GetParam()).starts_with("vocab/");
  EXPECT_EQ(file->tensors().empty(), vocabulary_only);
}

INSTANTIATE_TEST_SUITE_P(Each, SharedFile,
                         ::testing::Values("vocab/falcon.gguf", "vocab/gpt-2.gguf", "vocab/llama-bpe.gguf",
                                           "vocab/llama-spm.gguf", "vocab/mpt.gguf", "vocab/qwen2.gguf",
                                           "vocab/refact.gguf", "vocab/starcoder.gguf", "models/stories260K.gguf",
                                           "models/classics-33m-f16.gguf", "models/classics-33m-Q4_K_M.gguf"),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace spate
