// Float16 and E4M3 matrix products through cuBLASLt, for long prefill. The library is looked for when the program runs
// (dlopen), so that a binary starts without it; only its header is needed to build.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <memory>

#include "base/error.h"

namespace spate::cuda {

enum class GemmTypes {
  kHalf,         // x and w float16, y float32
  kFp8,          // x and w E4M3, y bfloat16; n_rows a multiple of 16, as are the addresses
  kFp8FastSums,  // the same, with sums that keep some 14 bits: faster, and less exact the more columns there are
};

// y[t, r] = alpha * sum_k x[t, k] w[r, k] + beta * y[t, r], accumulated in float32.
struct GemmArgs {
  const void* x;  // [n_tokens, n_cols]
  const void* w;  // [n_rows, n_cols]
  void* y;        // [n_tokens, y_stride]
  int n_tokens, n_rows, n_cols;
  int64_t y_stride;
  float alpha, beta;
  GemmTypes types = GemmTypes::kHalf;
};

class Gemm {
 public:
  static constexpr int64_t kScratchBytes = 32 << 20;  // as cuBLAS asks for on Hopper

  // Error (kUnsupported): no usable cuBLASLt on this machine; the message names what is missing.
  static Result<std::unique_ptr<Gemm>> open();
  ~Gemm();

  // scratch: kScratchBytes on the device. Any thread at a time; the first call of a shape, up to 128 numbers of tokens
  // alike, asks cuBLASLt for its algorithm.
  void run(const GemmArgs& args, std::byte* scratch, cudaStream_t stream) const;

 private:
  struct Library;
  explicit Gemm(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace spate::cuda
