// What each instruction set provides to linear.cc: one translation unit each (linear_avx2.cc, ...), compiled with that
// set's flags and reached only through the table that it returns. Nothing in such a unit may have external linkage but
// that one function: an inline function that the linker shares between units would carry one unit's instructions into
// all. So they use no library functions, and the shared sources (*.inl) are included inside an anonymous namespace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backend/cpu/linear_tiles.h"
#include "backend/cpu/panel_layout.h"
#include "quant/quant_type.h"

namespace spate::cpu {

// A call works on at most this many tokens: their accumulators (16 floats each) and one 32-column step of their
// activations (48 bytes each) take 14 KB, so they stay in the first-level cache while a panel streams past.
inline constexpr int kTokenBlock = 128;

// One panel times up to kTokenBlock tokens.
struct PanelProduct {
  const std::byte* panel = nullptr;
  int64_t n_cols = 0;
  // The first token's; one of the two, as PackedMatrix::takes_int8 says.
  const float* x = nullptr;                 // [n_tokens, n_cols]
  const ActivationBlock* blocks = nullptr;  // [n_cols / 32, block_stride], the first n_tokens of each row
  int64_t block_stride = 0;
  int n_tokens = 0;
  const float* bias = nullptr;  // [n_valid] or null
  float* y = nullptr;           // [n_tokens, y_stride], the first n_valid of each row are written
  int64_t y_stride = 0;
  int n_valid = kPanelRows;  // rows of the panel that exist
  bool accumulate = false;
};

using PanelKernel = void (*)(const PanelProduct&);

// A kernel for several tokens whose registers have a shape: begin() before its calls on a thread, all of which have
// n_tokens, and end() after them.
struct FewTokenKernel {
  PanelKernel run = nullptr;
  void (*begin)(int n_tokens) = nullptr;
  void (*end)() = nullptr;
};

struct LinearKernels {
  PanelKernel (*kernel_for)(QuantType type);
  // Makes n_blocks consecutive activation blocks of one token from x[32 n_blocks], written out_stride blocks apart.
  void (*quantize)(const float* x, int64_t n_blocks, ActivationBlock* out, int64_t out_stride);
  const TileKernels* tiles = nullptr;  // for many tokens; null where there are none
  // Instead of kernel_for, with the same bits: `run` is null where that is quicker. Null where there are none.
  FewTokenKernel (*few_kernel_for)(QuantType type, int n_tokens) = nullptr;
};

const LinearKernels& portable_linear_kernels();
const LinearKernels& avx2_linear_kernels();
const LinearKernels& avx512_linear_kernels();
const LinearKernels& amx_linear_kernels();
FewTokenKernel amx_few_token_kernel_for(QuantType type, int n_tokens);

}  // namespace spate::cpu
