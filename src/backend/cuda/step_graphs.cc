#include "backend/cuda/step_graphs.h"

#include <algorithm>
#include <atomic>

#include "backend/cuda/cuda_check.h"

namespace spate::cuda {

namespace {

std::atomic<int64_t> captures{0};

// Ends a capture that failed half-way, so that the stream can be used and destroyed.
void abandon_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

}  // namespace

int64_t n_captures() {
  return captures;
}

std::vector<int> decode_buckets(int max_tokens) {
  std::vector<int> buckets;
  for (const int size : {1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128})
    if (size < max_tokens) buckets.push_back(size);
  for (int size = 192; size < max_tokens; size += 64) buckets.push_back(size);
  if (max_tokens > 0) buckets.push_back(max_tokens);
  return buckets;
}

CapturedGraph::CapturedGraph(cudaStream_t stream, const std::string& what, const std::function<void()>& launch) {
  // Another thread's calls (an executor beside this one) must not break the capture.
  SPATE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing {}", what);
  try {
    launch();
  } catch (...) {
    abandon_capture(stream);
    throw;
  }
  cudaGraph_t graph = nullptr;
  SPATE_CUDA(cudaStreamEndCapture(stream, &graph), "capturing {}", what);
  const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  SPATE_CUDA(code, "making a graph of {}", what);
  SPATE_CUDA(cudaGraphUpload(graph_, stream), "uploading the graph of {}", what);
  ++captures;
}

CapturedGraph::~CapturedGraph() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

void CapturedGraph::replay(cudaStream_t stream) const {
  SPATE_CUDA(cudaGraphLaunch(graph_, stream), "replaying a graph");
}

const CapturedGraph* StepGraphs::rows_for(const RowPlan& plan, int n_rows) const {
  const bool one_slice = plan.slices.size() == 1 && plan.slices[0].n == n_rows && !plan.slices[0].hidden;
  if (!one_slice || plan.has_tail || full_rows.empty() || n_rows > n_tokens) return nullptr;
  return plan.path == SamplingPath::kGreedy && !plan.counts ? &greedy_rows : &full_rows;
}

const StepGraphs* find_bucket(std::span<const StepGraphs> buckets, int n_tokens) {
  const auto found = std::ranges::lower_bound(buckets, n_tokens, {}, &StepGraphs::n_tokens);
  return found == buckets.end() ? nullptr : &*found;
}

}  // namespace spate::cuda
