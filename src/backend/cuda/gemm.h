// Float16 matrix products through cuBLASLt, for long prefill. The library is looked for when the program runs (dlopen),
// so that a binary starts without it; only its header is needed to build.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <memory>

#include "base/error.h"

namespace spate::cuda {

// y[t, r] = alpha * sum_k x[t, k] w[r, k] + beta * y[t, r], accumulated in float32.
struct GemmArgs {
  const __half* x;  // [n_tokens, n_cols]
  const __half* w;  // [n_rows, n_cols]
  float* y;         // [n_tokens, y_stride]
  int n_tokens, n_rows, n_cols;
  int64_t y_stride;
  float alpha, beta;
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
