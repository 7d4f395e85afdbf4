// One token's products from one attention to the next as a chain, against the same products one by one: the same bits,
// as both cut K alike where they have as many warps.
#include "backend/cuda/matmul_chain.h"

#include <cstring>

#include "backend/cuda/matmul_kernels.h"

#include "matmul_fixture.h"

namespace spate::cuda::testing {
namespace {

struct LayerTypes {
  QuantType output, gate_up, down, query_key, value;
};

// A layer of random matrices with all that its products read and write.
class Layer {
 public:
  Layer(const LayerTypes& types, int d_model, int d_ff, uint32_t seed)
      : d_model_(d_model),
        n_qkv_(d_model + 2 * kKvDim),
        output_(make_matrix(types.output, d_model, d_model, seed)),
        gate_(make_matrix(types.gate_up, d_ff, d_model, seed + 1)),
        up_(make_matrix(types.gate_up, d_ff, d_model, seed + 2)),
        down_(make_matrix(types.down, d_model, d_ff, seed + 3)),
        query_(make_matrix(types.query_key, d_model, d_model, seed + 4)),
        key_(make_matrix(types.query_key, kKvDim, d_model, seed + 5)),
        value_(make_matrix(types.value, kKvDim, d_model, seed + 6)),
        attended_(make_activations(1, d_model, seed + 7)),
        residual_(random_floats(d_model, seed + 8)),
        weights_(random_floats(d_model, seed + 9)),
        normed_(padded_cols(d_model)),
        ff_(padded_cols(d_ff)),
        qkv_(n_qkv_),
        squares_(size_t(squares_stride(d_model))),
        scales_(2) {}

  void begin() {
    residual_there_ = std::make_unique<DeviceVector<float>>(residual_);
    normed_.fill(0);
    ff_.fill(0);
    qkv_.fill(0xff);
    squares_.fill(0);
    scales_.upload({1.0f / 16, 1.0f / 16});
  }

  // The chain's products; the last one is left out of three.
  std::vector<MatmulArgs> products(size_t n) const {
    float* residual = residual_there_->get();
    auto* normed = reinterpret_cast<__half*>(normed_.get());
    float *first = scales_.get(), *second = scales_.get() + 1;
    const auto norm = [&](float* scale, float* next_scale) {
      return FoldedNorm{.squares = squares_.get(), .scale = scale, .next_scale = next_scale, .epsilon = 1e-5f};
    };
    const auto next = [&](float* scale) {
      return NextNorm{.x = normed, .weight = weights_.get(), .scale = scale, .squares = squares_.get()};
    };
    std::vector<MatmulArgs> all = {{.x = attended_.get(),
                                    .parts = {output_.packed},
                                    .n_parts = 1,
                                    .epilogue = Epilogue::kAdd,
                                    .y = residual,
                                    .y_stride = d_model_,
                                    .next = next(second)},
                                   {.x = normed,
                                    .parts = {gate_.packed, up_.packed},
                                    .n_parts = 2,
                                    .epilogue = Epilogue::kSwiGlu,
                                    .ff = reinterpret_cast<__half*>(ff_.get()),
                                    .norm = norm(second, first)},
                                   {.x = reinterpret_cast<const __half*>(ff_.get()),
                                    .x_scale = 1 / kFfScale,
                                    .parts = {down_.packed},
                                    .n_parts = 1,
                                    .epilogue = Epilogue::kAdd,
                                    .y = residual,
                                    .y_stride = d_model_,
                                    .next = next(first)},
                                   {.x = normed,
                                    .parts = {query_.packed, key_.packed, value_.packed},
                                    .n_parts = 3,
                                    .epilogue = Epilogue::kStore,
                                    .y = qkv_.get(),
                                    .y_stride = n_qkv_,
                                    .norm = norm(first, second)}};
    all.resize(n);
    return all;
  }

  struct Results {
    std::vector<float> residual, qkv, squares, scales;
    std::vector<uint16_t> normed, ff;
  };
  Results results() const {
    return {residual_there_->download(), qkv_.download(),    squares_.download(),
            scales_.download(),          normed_.download(), ff_.download()};
  }

 private:
  static constexpr int kKvDim = 80;

  static std::vector<float> random_floats(int n, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float& value : values) value = normal(random);
    return values;
  }

  int d_model_, n_qkv_;
  Matrix output_, gate_, up_, down_, query_, key_, value_;
  Activations attended_;
  std::vector<float> residual_;
  DeviceVector<float> weights_;
  std::unique_ptr<DeviceVector<float>> residual_there_;
  DeviceVector<uint16_t> normed_, ff_;
  DeviceVector<float> qkv_, squares_, scales_;
};

template <class T>
void expect_same_bits(const std::vector<T>& actual, const std::vector<T>& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(T)), 0)
        << what << " " << i << ": " << actual[i] << " instead of " << expected[i];
}

// Dependent launches beside one another are the executor's; the others are cooperative.
class MatmulChain : public MatmulFixture, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    MatmulFixture::SetUp();
    if (IsSkipped()) return;
    if (profile_.stream_int8_tokens == 0) GTEST_SKIP() << "no bulk copies on " << profile_.name;
    profile_.chain = true;
    profile_.dependent_launch = GetParam();
    profile_.stream_int8_warps = 8;  // as many one by one
  }

  // Twice, as the counts of the grid's barriers go from launch to launch.
  void expect_same(Layer& layer, size_t n_products) {
    layer.begin();
    for (const MatmulArgs& product : layer.products(n_products)) matmul(product, 1, workspace_, profile_, nullptr);
    const Layer::Results alone = layer.results();
    for (int run = 0; run < 2; ++run) {
      SCOPED_TRACE(run);
      layer.begin();
      ASSERT_TRUE(matmul_chain(layer.products(n_products), workspace_, profile_, nullptr));
      const Layer::Results chained = layer.results();
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.residual, alone.residual, "residual"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.ff, alone.ff, "ff"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.normed, alone.normed, "normed"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.squares, alone.squares, "squares"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.scales, alone.scales, "scales"));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(chained.qkv, alone.qkv, "qkv"));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Launches, MatmulChain, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Dependent" : "Cooperative"; });

using enum QuantType;

TEST_P(MatmulChain, OfTwoTypes_IsTheProductsOneByOne) {
  for (const LayerTypes& types : {LayerTypes{kQ4_K, kQ4_K, kQ6_K, kQ4_K, kQ6_K},
                                  {kQ4_K, kQ4_K, kQ4_K, kQ4_K, kQ6_K},
                                  {kQ6_K, kQ6_K, kQ4_K, kQ6_K, kQ6_K}}) {
    SCOPED_TRACE(::testing::Message() << quant_name(types.output) << ", down of " << quant_name(types.down));
    Layer layer(types, 512, 1280, 1);
    ASSERT_NO_FATAL_FAILURE(expect_same(layer, 4));
    ASSERT_NO_FATAL_FAILURE(expect_same(layer, 3));
  }
}

TEST_P(MatmulChain, OfOneType_IsTheProductsOneByOne) {
  for (const QuantType type : {kQ4_K, kQ6_K, kQ8_0}) {
    if (type_kernels(type).tile_bytes == 0) continue;
    SCOPED_TRACE(quant_name(type));
    Layer layer({type, type, type, type, type}, 768, 1024, 2);
    ASSERT_NO_FATAL_FAILURE(expect_same(layer, 4));
    ASSERT_NO_FATAL_FAILURE(expect_same(layer, 3));
  }
}

// CTAs without work in some of the products, or in all, and rows that are no whole panels.
TEST_P(MatmulChain, WithFewRows_IsTheProductsOneByOne) {
  Layer layer({kQ4_K, kQ4_K, kQ6_K, kQ4_K, kQ6_K}, 256, 256, 3);
  ASSERT_NO_FATAL_FAILURE(expect_same(layer, 4));
}

TEST_P(MatmulChain, WithoutAKernel_IsRefused) {
  Layer three({kQ4_K, kQ5_K, kQ6_K, kQ4_K, kQ6_K}, 256, 256, 4), floats({kF16, kF16, kF16, kF16, kF16}, 256, 256, 5);
  three.begin();
  floats.begin();
  EXPECT_FALSE(matmul_chain(three.products(4), workspace_, profile_, nullptr));
  EXPECT_FALSE(matmul_chain(floats.products(4), workspace_, profile_, nullptr));
}

// Host arithmetic: the shapes of known models fit an H200's shared memory, with something ahead in each ring.
TEST(ChainPlan, OfKnownModels_HasRoomForRings) {
  DeviceProfile profile;
  profile.n_sms = 132;
  profile.shared_bytes_per_block = 227 << 10;
  const auto plan_of = [&](int d_model, int d_ff, int n_qkv, int tile_bytes) {
    const ChainLink links[] = {{d_model / 16, d_model / 256, false, false},
                               {2 * d_ff / 16, d_model / 256, true, false},
                               {d_model / 16, (d_ff + 255) / 256, false, false},
                               {n_qkv / 16, d_model / 256, false, true}};
    return plan_chain(links, tile_bytes, profile);
  };
  for (const int tile_bytes : {2304, 3360, 4352}) {
    for (const auto& [d_model, d_ff, n_qkv] :
         {std::tuple(4096, 14336, 6144), {3584, 18944, 4608}, {1536, 8960, 2048}, {5120, 27648, 7168}}) {
      SCOPED_TRACE(::testing::Message() << d_model << " wide, tiles of " << tile_bytes);
      const ChainPlan plan = plan_of(d_model, d_ff, n_qkv, tile_bytes);
      EXPECT_EQ(plan.n_ctas, 132);
      EXPECT_LE(plan.at.n_bytes, profile.shared_bytes_per_block - 1024);
      EXPECT_GE(plan.shapes[0].n_warps * plan.shapes[0].n_stages * tile_bytes, 128 << 10);
    }
  }
}

}  // namespace
}  // namespace spate::cuda::testing
