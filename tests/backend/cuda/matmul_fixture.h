// Matrices, activations and the memory of products for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <span>
#include <thread>

#include "backend/cuda/gemm.h"
#include "backend/cuda/matmul.h"
#include "quant/half.h"

#include "device_vector.h"
#include "int8_reference.h"
#include "support/random_weights.h"

namespace spate::cuda::testing {

// Of the sum of magnitudes (design.md, "Numbers that must hold"): weights are decoded to float16, or activations are
// int8 and everything else exact or float32.
inline constexpr double kTolerance = 0x1p-10, kInt8Tolerance = 1e-4;

struct Matrix {
  QuantType type;
  int n_rows, n_cols;
  std::vector<float> values;  // decoded
  std::unique_ptr<DeviceVector<std::byte>> tiles;
  PackedMatrix packed;
};

// deviations: of the weights of rows 0, 1, ..., and then from the first one again.
inline Matrix make_matrix(QuantType type, int n_rows, int n_cols, uint32_t seed,
                          std::span<const float> deviations = {}) {
  Matrix m{type, n_rows, n_cols, std::vector<float>(size_t(n_rows) * n_cols), nullptr, {}};
  std::vector<std::byte> file = spate::testing::random_weights(type, n_rows, n_cols, seed);
  if (deviations.empty()) {
    spate::testing::set_deviation(type, 0.05, file);
  } else {
    const int64_t row_bytes = quant_bytes(type, n_cols);
    for (int r = 0; r < n_rows; ++r) {
      std::vector<std::byte> row(file.begin() + r * row_bytes, file.begin() + (r + 1) * row_bytes);
      spate::testing::set_deviation(type, deviations[static_cast<size_t>(r) % deviations.size()], row);
      std::copy(row.begin(), row.end(), file.begin() + r * row_bytes);
    }
  }
  const QuantTraits& traits = quant_traits(type);
  traits.decode(file.data(), int64_t{n_rows} * n_cols / traits.block_elems, m.values.data());
  m.tiles = std::make_unique<DeviceVector<std::byte>>(packed_bytes(type, n_rows, n_cols));
  m.tiles->fill(0xff);
  m.packed = {.tiles = m.tiles->get(), .type = type, .n_rows = n_rows, .n_cols = n_cols};
  const MatrixScale scale = choose_scale(type, file.data(), n_rows, n_cols);
  set_scale(scale, m.packed, m.tiles->get(), nullptr);
  const DeviceVector<std::byte> raw(file);
  // In two pieces, as a large matrix arrives.
  const int first = n_rows > kTileRows ? n_rows / 2 / kTileRows * kTileRows : 0;
  if (first > 0) pack_rows(raw.get(), 0, first, m.packed, m.tiles->get(), nullptr);
  pack_rows(raw.get() + first * quant_bytes(type, n_cols), first, n_rows - first, m.packed, m.tiles->get(), nullptr);
  return m;
}

// x[n_tokens, n_cols], and the same permuted and padded on the device.
struct Activations {
  std::vector<float> values;
  std::vector<float> int8_values;  // as matmul_stream_int8.h multiplies them; of whole sub-blocks of 32 columns alone
  std::unique_ptr<DeviceVector<uint16_t>> device;
  const __half* get() const { return reinterpret_cast<const __half*>(device->get()); }
};

// Of values that are rounded to float16 first.
inline Activations upload_activations(std::vector<float> values, int n_tokens, int n_cols) {
  std::vector<uint16_t> device(size_t(n_tokens) * padded_cols(n_cols), 0);
  for (int t = 0; t < n_tokens; ++t) {
    for (int k = 0; k < n_cols; ++k) {
      float& value = values[size_t(t) * n_cols + k];
      const uint16_t half = f32_to_f16(value);
      value = f16_to_f32(half);
      device[size_t(t) * padded_cols(n_cols) + k_position(k)] = half;
    }
  }
  Activations x{std::move(values), {}, std::make_unique<DeviceVector<uint16_t>>(device)};
  if (n_cols % kSubblockCols == 0) {
    const Int8Row all = quantise_row(x.values);
    for (size_t i = 0; i < x.values.size(); ++i) x.int8_values.push_back(static_cast<float>(all.value(i)));
  }
  return x;
}

inline Activations make_activations(int n_tokens, int n_cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size_t(n_tokens) * n_cols);
  for (float& value : values) value = normal(random);
  return upload_activations(std::move(values), n_tokens, n_cols);
}

struct Dot {
  double sum = 0, magnitude = 0;
};

inline Dot dot(const Matrix& w, int row, const std::vector<float>& x, int token) {
  constexpr int kLanes = 8;  // sums by themselves, so that the processor adds them beside one another
  double sums[kLanes] = {}, magnitudes[kLanes] = {};
  const float* a = &w.values[size_t(row) * w.n_cols];
  const float* b = &x[size_t(token) * w.n_cols];
  for (int k = 0; k < w.n_cols; ++k) {
    const double product = double{a[k]} * b[k];
    sums[k % kLanes] += product;
    magnitudes[k % kLanes] += std::abs(product);
  }
  return {std::accumulate(sums, sums + kLanes, 0.0), std::accumulate(magnitudes, magnitudes + kLanes, 0.0)};
}

// Calls work(first, last) for pieces of rows [0, n_rows), beside one another where all take n_products.
template <typename Work>
void for_rows(int n_rows, int64_t n_products, Work&& work) {
  constexpr int64_t kWorthAThread = 1 << 19;
  const int64_t most = std::max(1u, std::thread::hardware_concurrency());
  const int n = static_cast<int>(std::clamp<int64_t>(n_products / kWorthAThread, 1, most));
  const auto begin = [&](int i) { return static_cast<int>(int64_t{n_rows} * i / n); };
  std::vector<std::jthread> threads;
  for (int i = 1; i < n; ++i) threads.emplace_back(work, begin(i), begin(i + 1));
  work(0, begin(1));
}

// Of all rows and of tokens [0, n_tokens), [token][row].
inline std::vector<Dot> dots(const Matrix& w, const std::vector<float>& x, int n_tokens) {
  std::vector<Dot> all(size_t(n_tokens) * w.n_rows);
  for_rows(w.n_rows, int64_t{n_tokens} * w.n_rows * w.n_cols, [&](int first, int last) {
    for (int t = 0; t < n_tokens; ++t)
      for (int r = first; r < last; ++r) all[size_t(t) * w.n_rows + r] = dot(w, r, x, t);
  });
  return all;
}

inline Dot dot(const Matrix& w, int row, const Activations& x, int token) {
  return dot(w, row, x.values, token);
}

class MatmulFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
    profile_ = *probed;
    auto gemm = Gemm::open();
    if (gemm.ok()) gemm_ = std::move(gemm).value();
    allocate();
  }

  void allocate() {
    const MatmulWorkspaceSize size = matmul_workspace_size(
        {.max_tokens = 512, .decoded_elems = 1024 * 4096, .max_slots = 128, .d_ff = 1024, .max_cols = 4096}, profile_);
    partials_ = std::make_unique<DeviceVector<float>>(size.partial_elems);
    counters_ = std::make_unique<DeviceVector<uint32_t>>(size.n_counters);
    gate_up_ = std::make_unique<DeviceVector<float>>(size.gate_up_elems);
    decoded_ = std::make_unique<DeviceVector<__half>>(size.decoded_elems);
    scratch_ = std::make_unique<DeviceVector<std::byte>>(size.gemm_scratch_bytes);
    fp8_x_ = std::make_unique<DeviceVector<std::byte>>(size.fp8_x_bytes);
    fp8_factors_ = std::make_unique<DeviceVector<float>>(size.fp8_tokens);
    counters_->fill(0);
    workspace_ = {.partials = partials_->get(),
                  .partial_elems = size.partial_elems,
                  .counters = counters_->get(),
                  .n_counters = size.n_counters,
                  .gate_up = gate_up_->get(),
                  .gate_up_elems = size.gate_up_elems,
                  .decoded = decoded_->get(),
                  .decoded_elems = size.decoded_elems,
                  .gemm_scratch = scratch_->get(),
                  .gemm = gemm_.get(),
                  .fp8 = {.x = fp8_x_->get(),
                          .x_bytes = size.fp8_x_bytes,
                          .factors = fp8_factors_->get(),
                          .max_tokens = size.fp8_tokens}};
  }

  // How a matrix is multiplied with n_tokens tokens.
  bool takes_int8(const Matrix& w, int n_tokens) const {
    return n_tokens <= profile_.stream_int8_tokens && quant_traits(w.type).block_elems > 1 &&
           profile_.mma_warps_m == 0 && profile_.mma_split_k == 0;
  }
  double tolerance(const Matrix& w, int n_tokens) const {
    return takes_int8(w, n_tokens) ? kInt8Tolerance : kTolerance;
  }
  // Every row times every token, [token][row], of the activations that the product gets.
  std::vector<Dot> expected_dots(const Matrix& w, const Activations& x, int n_tokens) const {
    return dots(w, takes_int8(w, n_tokens) ? x.int8_values : x.values, n_tokens);
  }

  void poison() {
    partials_->fill(0xff);
    gate_up_->fill(0xff);
    decoded_->fill(0xff);
    fp8_x_->fill(0xff);
    fp8_factors_->fill(0xff);
  }

  DeviceProfile profile_;
  std::unique_ptr<Gemm> gemm_;
  std::unique_ptr<DeviceVector<float>> partials_, gate_up_, fp8_factors_;
  std::unique_ptr<DeviceVector<uint32_t>> counters_;
  std::unique_ptr<DeviceVector<__half>> decoded_;
  std::unique_ptr<DeviceVector<std::byte>> scratch_, fp8_x_;
  MatmulWorkspace workspace_;
};

}  // namespace spate::cuda::testing
