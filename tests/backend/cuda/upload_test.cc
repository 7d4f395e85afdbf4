// Weights on the device: what arrives through the upload's buffers is what each matrix gives by itself.
#include <gtest/gtest.h>

#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/weight_upload.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::TemporaryFolder;

std::vector<std::byte> download(const std::byte* device, int64_t n_bytes) {
  std::vector<std::byte> host(n_bytes);
  SPATE_CUDA(cudaMemcpy(host.data(), device, host.size(), cudaMemcpyDeviceToHost), "downloading");
  return host;
}

std::vector<std::byte> file_bytes(const Weight& weight) {
  return {weight.tensor->data.begin(), weight.tensor->data.end()};
}

// Of the tiles, without what packed_bytes() rounds up to.
int64_t tile_bytes(const Weight& weight) {
  const bool floats = quant_traits(weight.type()).block_elems == 1;
  const int64_t row_bytes = floats ? kTileCols * 2 : quant_bytes(weight.type(), kTileCols);
  return (weight.n_rows + kTileRows - 1) / kTileRows * kTileRows *
         (padded_cols(static_cast<int>(weight.n_cols)) / kTileCols) * row_bytes;
}

// The matrix packed from one copy of all its rows.
void expect_packed(const Weight& weight, const PackedMatrix& packed, const std::string& what) {
  EXPECT_EQ(packed.type, weight.type()) << what;
  EXPECT_EQ(packed.n_rows, weight.n_rows) << what;
  EXPECT_EQ(packed.n_cols, weight.n_cols) << what;
  const MatrixScale scale = choose_scale(weight.type(), weight.tensor->data.data(), weight.n_rows, weight.n_cols);
  EXPECT_EQ(packed.scale_log2, scale.log2) << what;
  ASSERT_EQ(packed.row_factors == nullptr, scale.row_factors.empty()) << what;
  const int64_t n_bytes = tile_bytes(weight);
  const DeviceVector<std::byte> raw(file_bytes(weight));
  DeviceVector<std::byte> tiles(packed_bytes(weight.type(), weight.n_rows, weight.n_cols));
  tiles.fill(0xff);
  PackedMatrix whole = packed;
  whole.tiles = tiles.get();
  set_scale(scale, whole, tiles.get(), nullptr);
  pack_rows(raw.get(), 0, packed.n_rows, whole, tiles.get(), nullptr);
  EXPECT_TRUE(download(packed.tiles, n_bytes) == download(tiles.get(), n_bytes)) << what;
  if (scale.row_factors.empty()) return;
  std::vector<float> factors(scale.row_factors.size());
  SPATE_CUDA(cudaMemcpy(factors.data(), packed.row_factors, factors.size() * sizeof(float), cudaMemcpyDeviceToHost),
             "downloading");
  EXPECT_EQ(factors, scale.row_factors) << what;
}

void expect_values(std::initializer_list<const Weight*> parts, const float* device, const std::string& what) {
  std::vector<float> expected;
  for (const Weight* part : parts) {
    if (!*part) continue;
    const std::vector<float> values = vector_values(*part);
    expected.insert(expected.end(), values.begin(), values.end());
  }
  ASSERT_EQ(device == nullptr, expected.empty()) << what;
  if (expected.empty()) return;
  std::vector<float> actual(expected.size());
  SPATE_CUDA(cudaMemcpy(actual.data(), device, actual.size() * sizeof(float), cudaMemcpyDeviceToHost), "downloading");
  EXPECT_EQ(actual, expected) << what;
}

void expect_uploaded(const Model& model, const CudaWeights& weights) {
  EXPECT_EQ(weights.memory.used_bytes(), weights.memory.n_bytes());
  EXPECT_EQ(weights.memory.n_bytes(), weight_memory_bytes(model));
  const Weight& embedding = model.token_embedding();
  EXPECT_TRUE(download(weights.embedding, static_cast<int64_t>(embedding.tensor->data.size())) ==
              file_bytes(embedding));
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& from = model.layers()[i];
    const CudaLayer& to = weights.layers[i];
    const auto name = [&](const char* tensor) { return fmt::format("layer {} {}", i, tensor); };
    expect_values({&from.attn_norm}, to.attn_norm, name("attn_norm"));
    expect_values({&from.ffn_norm}, to.ffn_norm, name("ffn_norm"));
    expect_values({&from.attn_q_bias, &from.attn_k_bias, &from.attn_v_bias}, to.qkv_bias, name("bias"));
    expect_values({&from.attn_q_norm}, to.q_norm, name("q_norm"));
    expect_values({&from.attn_k_norm}, to.k_norm, name("k_norm"));
    expect_packed(from.attn_q, to.q, name("attn_q"));
    expect_packed(from.attn_k, to.k, name("attn_k"));
    expect_packed(from.attn_v, to.v, name("attn_v"));
    expect_packed(from.attn_output, to.attn_output, name("attn_output"));
    expect_packed(from.ffn_gate, to.gate, name("ffn_gate"));
    expect_packed(from.ffn_up, to.up, name("ffn_up"));
    expect_packed(from.ffn_down, to.down, name("ffn_down"));
  }
  expect_values({&model.output_norm()}, weights.output_norm, "output_norm");
  expect_packed(model.output(), weights.output, "output");
}

TEST(WeightUpload, EveryModel_ArrivesWhole) {
  SPATE_REQUIRE_GPU();
  for (const NamedModel& named : random_models()) {
    SCOPED_TRACE(named.name);
    TemporaryFolder folder;
    const auto model = make_model(named.model, folder.path("model.gguf"));
    ASSERT_NE(model, nullptr);
    expect_uploaded(*model, load_weights(*model, 3, nullptr));
  }
}

// Matrices of several buffers, the last one partly filled, rows that end within a panel.
TEST(WeightUpload, MatricesLargerThanABuffer_ArriveWholeAndReportProgress) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.n_layers = 1, .vocab_size = 90'001, .types = {QuantType::kF32, QuantType::kQ6_K}},
                                folder.path("model.gguf"));
  ASSERT_NE(model, nullptr);
  std::vector<double> fractions;
  const CudaWeights weights = load_weights(*model, 2, [&](double fraction) { fractions.push_back(fraction); });
  expect_uploaded(*model, weights);
  ASSERT_FALSE(fractions.empty());
  EXPECT_TRUE(std::is_sorted(fractions.begin(), fractions.end()));
  EXPECT_DOUBLE_EQ(fractions.back(), 1);
}

}  // namespace
}  // namespace spate::cuda::testing
