// Embedding rows on the GPU: the bits of the qblocks' own decode.
#include <cmath>
#include <gtest/gtest.h>

#include "backend/cuda/ops.h"

#include "device_batch.h"
#include "support/random_weights.h"

namespace spate::cuda::testing {
namespace {

class EmbedTest : public ::testing::TestWithParam<QuantType> {
 protected:
  void SetUp() override {
    const auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
  }
};

void check(QuantType type, int n_tokens, int d_model) {
  constexpr int kVocab = 19;
  const std::vector<std::byte> table = spate::testing::random_weights(type, kVocab, d_model, 3 + n_tokens);
  const QuantTraits& traits = quant_traits(type);
  std::vector<float> decoded(size_t(kVocab) * d_model);
  traits.decode(table.data(), int64_t{kVocab} * d_model / traits.block_elems, decoded.data());

  std::vector<int32_t> previous(5);
  for (int i = 0; i < 5; ++i) previous[i] = (7 * i + 2) % kVocab;
  BatchVectors batch;
  std::vector<int> expected;  // token, or -1
  for (int t = 0; t < n_tokens; ++t) {
    const bool sampled = t % 3 == 1, padding = t % 5 == 4;
    batch.from_row.push_back(sampled ? t % 5 : -1);
    batch.tokens.push_back(sampled || padding ? 1 << 30 : (3 * t + 1) % kVocab);
    batch.places.push_back({.position = t, .page_plus_1 = padding ? 0 : 1});
    expected.push_back(padding ? -1 : sampled ? previous[t % 5] : batch.tokens.back());
  }
  // Two more, beyond the real ones.
  for (int i = 0; i < 2; ++i) {
    batch.from_row.push_back(-1);
    batch.tokens.push_back(1 << 30);
    batch.places.emplace_back();
    expected.push_back(-1);
  }
  batch.pages = {0};

  const TestBatch there(batch);
  const DeviceVector<std::byte> table_there(table);
  const DeviceVector<int32_t> previous_there(previous);
  const int n_rows = static_cast<int>(expected.size());
  DeviceVector<float> residual(size_t(n_rows + 1) * d_model);
  residual.fill(0xff);
  EmbedArgs args{};
  args.table = table_there.get();
  args.type = type;
  args.d_model = d_model;
  args.row_bytes = quant_bytes(type, d_model);
  args.batch = there.get();
  args.previous_tokens = previous_there.get();
  args.residual = residual.get();
  args.dependent_launch = probe_device(0)->dependent_launch;
  embed(args, n_rows, nullptr);
  SPATE_CUDA(cudaDeviceSynchronize(), "embedding");
  const std::vector<float> got = residual.download();
  for (int t = 0; t < n_rows; ++t)
    for (int k = 0; k < d_model; ++k) {
      const float want = expected[t] < 0 ? 0.0f : decoded[size_t(expected[t]) * d_model + k];
      ASSERT_EQ(got[size_t(t) * d_model + k], want) << quant_name(type) << " token " << t << " element " << k;
    }
  for (size_t at = size_t(n_rows) * d_model; at < got.size(); ++at)
    ASSERT_TRUE(std::isnan(got[at])) << "wrote past the end";
}

TEST_P(EmbedTest, Rows_AreTheDecodesBits) {
  const int unit = quant_traits(GetParam()).block_elems;
  for (const int d_model : {unit, 3 * unit, unit == 1 ? 1001 : 5 * unit})
    for (const int n_tokens : {1, 7, 64, 70}) check(GetParam(), n_tokens, d_model);
}

// So many rows that none, or not all of its CTAs, has a CTA for every 256 elements.
TEST_P(EmbedTest, ManyLongRows_AreTheDecodesBits) {
  for (const int n_tokens : {1500, 4200}) check(GetParam(), n_tokens, 1280);
}

INSTANTIATE_TEST_SUITE_P(Types, EmbedTest, ::testing::ValuesIn(all_quant_types().begin(), all_quant_types().end()),
                         [](const auto& param) { return std::string(quant_name(param.param)); });

}  // namespace
}  // namespace spate::cuda::testing
