#include "backend/cuda/cuda_check.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/sampling.h"
#include "backend/cuda/sampling_device.h"
#include "base/check.h"

namespace spate::cuda {
namespace {

constexpr int kCopyThreads = 256;

// A warp a row of a greedy step.
__global__ void finish_greedy(SampleArgs args) {
  release_successor();
  wait_for_predecessor();
  const int index = args.first_row + blockIdx.x;
  if (index >= *args.n_rows_real) return;
  const RowSpec spec = args.rows[index];
  if (spec.kind == static_cast<int32_t>(RowKind::kHidden)) return;
  const int parts = n_parts(args.vocab_size);
  const ModelRow model = merge_model(args.scratch.parts + blockIdx.x * parts, parts, threadIdx.x);
  if (threadIdx.x > 0) return;
  const bool scores = spec.kind == static_cast<int32_t>(RowKind::kScore);
  const int32_t token = scores ? spec.target : model.peak.token;
  const float logit = args.logits[blockIdx.x * logits_stride(args.vocab_size) + token];
  write_result(args, index, model.peak.token, model.logprob(logit));
}

__global__ __launch_bounds__(kCopyThreads) void copy_hidden_kernel(HiddenArgs args) {
  release_successor();
  wait_for_predecessor();
  const int index = args.first_row + blockIdx.x;
  if (index >= *args.n_rows_real) return;
  const RowSpec spec = args.rows[index];
  const float* from = args.hidden + static_cast<int64_t>(blockIdx.x) * args.d_model;
  float* to = reinterpret_cast<float*>(args.output) + spec.output_offset;
  for (int i = threadIdx.x; i < args.d_model; i += kCopyThreads) to[i] = from[i];
  if (threadIdx.x > 0) return;
  args.drawn[index] = 0;
  reinterpret_cast<RowResult*>(args.output)[index] = {0, 0};
}

struct ScratchElems {
  int64_t parts, run_maxima, run_masses, adjusted;
};
ScratchElems scratch_elems(int max_slice_rows, int vocab_size) {
  const int64_t rows = max_slice_rows;
  return {.parts = 2 * rows * n_parts(vocab_size),
          .run_maxima = 2 * rows * n_runs(vocab_size),
          .run_masses = rows * n_runs(vocab_size),
          .adjusted = rows * logits_stride(vocab_size)};
}

}  // namespace

int64_t sampling_scratch_bytes(int max_slice_rows, int vocab_size) {
  const ScratchElems elems = scratch_elems(max_slice_rows, vocab_size);
  return aligned(elems.parts * static_cast<int64_t>(sizeof(SamplingScratch::Part))) +
         aligned(elems.run_maxima * static_cast<int64_t>(sizeof(uint32_t))) +
         aligned(elems.run_masses * static_cast<int64_t>(sizeof(uint64_t))) +
         aligned(elems.adjusted * static_cast<int64_t>(sizeof(float)));
}

SamplingScratch take_sampling_scratch(int max_slice_rows, int vocab_size, DeviceArena& device) {
  SPATE_CHECK(vocab_size > 0 && vocab_size <= kMaxSamplingVocab, "sampling from {} logits", vocab_size);
  const ScratchElems elems = scratch_elems(max_slice_rows, vocab_size);
  return {.parts = device.take<SamplingScratch::Part>(elems.parts),
          .run_maxima = device.take<uint32_t>(elems.run_maxima),
          .run_masses = device.take<uint64_t>(elems.run_masses),
          .adjusted = device.take<float>(elems.adjusted),
          .max_slice_rows = max_slice_rows};
}

void sample_rows(const SampleArgs& args, SamplingPath path, int n_rows, bool dependent, cudaStream_t stream) {
  SPATE_CHECK(n_rows >= 0 && n_rows <= args.scratch.max_slice_rows, "{} rows sampled in slices of {}", n_rows,
              args.scratch.max_slice_rows);
  if (n_rows == 0) return;
  launch_scan(args, n_rows, dependent, stream);
  if (path == SamplingPath::kFull) {
    launch_weigh(args, n_rows, dependent, stream);
    launch_draw(args, n_rows, dependent, stream);
    return;
  }
  SPATE_CUDA(launch({.grid = static_cast<unsigned>(n_rows), .block = 32, .stream = stream, .dependent = dependent},
                    finish_greedy, args),
             "taking the greatest logits of {} rows", n_rows);
}

void copy_hidden(const HiddenArgs& args, int n_rows, bool dependent, cudaStream_t stream) {
  if (n_rows == 0) return;
  SPATE_CUDA(
      launch({.grid = static_cast<unsigned>(n_rows), .block = kCopyThreads, .stream = stream, .dependent = dependent},
             copy_hidden_kernel, args),
      "copying {} hidden states of {}", n_rows, args.d_model);
}

}  // namespace spate::cuda
