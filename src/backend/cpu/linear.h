// Matrix products over quantised weights on the CPU: Y[T, n_rows] = X[T, n_cols] W[n_rows, n_cols]^T.
//
// Weights lie in panels of kPanelRows rows: lane r of a vector belongs to row r of the panel, so a product needs no sum
// across lanes and 4 consecutive columns of 16 rows fill the 64 bytes that AVX-512 VNNI multiplies at once and that AMX
// wants as a tile row. Each (row, token) result is computed by the same float32 operations in the same order whatever
// T, the token's place in the batch and the instruction set are: results are bit-identical across all of them.
// linear_integer.inl and linear_float.inl define those operations. (The portable kernels keep the order but multiply
// and add in two roundings.)
//
// The exception is speed worth several times that: on AMX, steps of kTileMinTokens tokens and more multiply bfloat16
// tiles (linear_tiles.h), for all types but F32. Weights and activations are rounded to bfloat16, 2^-8 of each at most,
// and summed in float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/aligned_memory.h"
#include "backend/cpu/linear_tiles.h"
#include "backend/cpu/panel_layout.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "quant/quant_type.h"

namespace spate::cpu {

// T activation vectors as the kernels take them. Block-major: while a kernel holds 32 columns of weights in registers,
// it reads the tokens one after the other.
struct Activations {
  const float* x = nullptr;                 // [n_tokens, n_cols], for weights of F32, F16 and BF16
  const ActivationBlock* blocks = nullptr;  // [n_cols / 32, n_tokens], for weights of integer qblocks
  TokenTiles tiles = {};  // instead of `blocks` where tiles are used, for weights of all types but F32
  int n_tokens = 0;
  int n_cols = 0;
};

// Owns the memory behind Activations for up to max_tokens x max_cols.
class ActivationBuffer {
 public:
  // Tiles are used for steps of tile_min_tokens and more, where the instruction set has them.
  ActivationBuffer(int max_tokens, int max_cols, int tile_min_tokens = kTileMinTokens);

  // The activations of x[n_tokens, n_cols], which must outlive their use. Blocks (with n_cols a multiple of 32) are
  // made only if some weight that will use them has integer qblocks. Valid until the next fill() or tile_memory().
  // step_tokens: of the step whose products these are, if it goes on with n_tokens of them: how those are multiplied
  // must not depend on how many they are.
  Activations fill(ThreadPool& pool, Isa isa, const float* x, int n_tokens, int n_cols, bool need_int8,
                   int step_tokens = 0);
  // For the tiles of n_tokens x n_cols activations, to be written by the caller.
  uint16_t* tile_memory(int n_tokens, int n_cols);

 private:
  AlignedMemory memory_;  // of blocks or tiles
  int max_tokens_, max_cols_, tile_min_tokens_;
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

  QuantType type() const { return type_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t n_cols() const { return n_cols_; }
  int64_t n_panels() const { return (n_rows_ + kPanelRows - 1) / kPanelRows; }
  int64_t panel_bytes() const { return kPanelRows * row_bytes_; }
  int64_t memory_bytes() const { return panels_ ? n_panels() * panel_bytes() : 0; }  // owned; 0 when borrowed
  bool takes_int8() const;  // needs Activations::blocks (or tiles) rather than Activations::x
  // [panel_bytes()], 64-byte aligned where panel_bytes() is a multiple of 64; null when borrowed.
  const std::byte* panel(int64_t index) const { return panels_ ? panels_.get() + index * panel_bytes() : nullptr; }
  // Lays panel `index` of a borrowed matrix out in panel[panel_bytes()].
  void lay_out_panel(int64_t index, std::byte* panel) const;

 private:
  PackedMatrix(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols);

  QuantType type_;
  int64_t n_rows_, n_cols_, row_bytes_;
  const std::byte* rows_;  // in the file's layout; null once packed
  AlignedMemory panels_;
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

// silu(gate) * up of SwiGLU (Shazeer 2020): two products of the same activations, as the activations of the next. They
// go from the tiles of sums to tiles of activations; float32 rows of both would take more time in memory than the
// products.
struct GatedJob {
  const PackedMatrix* gate = nullptr;
  const PackedMatrix* up = nullptr;  // n_rows() as `gate`
  Activations input;
  void (*gate_multiply)(float* gate, const float* up, int n) = nullptr;  // element by element, into `gate`
};

// Whether run_gated() can do it: on tiles, with n_rows() a multiple of kTileColumns.
bool takes_gated_tiles(Isa isa, const GatedJob& job);

// Activations of n_rows() columns in `out`, tiles alone: for weights of all types but F32.
Activations run_gated(ThreadPool& pool, Isa isa, const GatedJob& job, ActivationBuffer& out);

}  // namespace spate::cpu
