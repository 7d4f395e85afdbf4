// Matrix products over quantised weights on the CPU: Y[T, n_rows] = X[T, n_cols] W[n_rows, n_cols]^T.
//
// Weights lie in panels of kPanelRows rows: lane r of a vector belongs to row r of the panel, so a product needs no sum
// across lanes and 4 consecutive columns of 16 rows fill the 64 bytes that AVX-512 VNNI multiplies at once and that AMX
// wants as a tile row. Each (row, token) result is computed by the same float32 operations in the same order whatever
// T, the token's place in the batch and the instruction set (AVX2, AVX-512, AMX) are: results are bit-identical across
// all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "quant/quant_type.h"

namespace spate::cpu {

inline constexpr int kPanelRows = 16;
inline constexpr int kActivationBlock = 32;  // columns that share a scale

// T activation vectors as the kernels take them. For weights of integer qblocks: int8, one float32 scale per 32 columns
// (scale = max |x| / 127, rounded to nearest even). Weights of F32, F16 and BF16 take the float32 activations
// themselves.
struct Activations {
  const float* x = nullptr;       // [n_tokens, n_cols]
  const int8_t* q = nullptr;      // [n_tokens, n_cols]
  const float* scale = nullptr;   // [n_tokens, n_cols / 32]
  const int32_t* sums = nullptr;  // [n_tokens, n_cols / 16]: sum of q over each 16 columns
  int n_tokens = 0;
  int n_cols = 0;
};

// Owns the memory behind Activations for up to max_tokens x max_cols.
class ActivationBuffer {
 public:
  ActivationBuffer(int max_tokens, int max_cols);

  // The activations of x[n_tokens, n_cols], which must outlive their use. int8 (with n_cols a multiple of 32) are made
  // only if some weight that will use them has integer qblocks.
  Activations fill(ThreadPool& pool, Isa isa, const float* x, int n_tokens, int n_cols, bool need_int8);

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<int8_t, Free> q_;
  std::unique_ptr<float, Free> scale_;
  std::unique_ptr<int32_t, Free> sums_;
  int max_tokens_, max_cols_;
};

// A weight matrix [n_rows, n_cols], n_cols a whole number of qblocks: in panels, or (borrow) as the file holds it, to
// be re-laid a panel at a time whenever it is used.
class PackedMatrix {
 public:
  // Copies into panels, losslessly: the same bits in another order, padded to whole panels with rows of zeros. `rows`
  // is in the file's layout and is not needed afterwards.
  static PackedMatrix pack(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols, ThreadPool& pool);
  // Keeps reading `rows`, which must outlive the matrix.
  static PackedMatrix borrow(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols);

  QuantType type() const;
  int64_t n_rows() const;
  int64_t n_cols() const;
  int64_t n_panels() const;  // ceil(n_rows / kPanelRows)
  int64_t panel_bytes() const;
  int64_t memory_bytes() const;                 // owned; 0 when borrowed
  bool takes_int8() const;                      // needs Activations::q rather than Activations::x
  const std::byte* panel(int64_t index) const;  // null when borrowed
};

// One product of a parallel section: y[t, r] (+)= dot(x[t], w[r]) (+ bias[r]).
struct LinearJob {
  const PackedMatrix* weight = nullptr;
  Activations input;            // n_cols == weight->n_cols()
  const float* bias = nullptr;  // [n_rows] or null; added to the dot product
  float* y = nullptr;           // [n_tokens, y_stride], the first n_rows of each row are written
  int64_t y_stride = 0;
  bool accumulate = false;  // y += instead of y =
};

// Runs the jobs in one parallel section, the panels of all of them shared out among the threads. The jobs must not
// depend on one another.
void run_linear(ThreadPool& pool, Isa isa, std::span<const LinearJob> jobs);

}  // namespace spate::cpu
