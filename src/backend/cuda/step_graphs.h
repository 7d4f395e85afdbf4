// Decode steps as CUDA graphs, captured when an executor is made: for each bucket of batch sizes one graph of all
// layers, and one of the rows for each way of sampling. A step of n tokens replays the smallest bucket that holds n;
// what is past n is padding. Layers and rows are separate graphs, so that masks of a step can be uploaded while its
// layers run.
#pragma once

#include <cuda_runtime_api.h>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/sampling.h"

namespace spate::cuda {

// Graphs captured by this process so far.
int64_t n_captures();

// Batch sizes with graphs of their own: 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128 and then every 64, up to
// max_tokens, which is the last one. A step computes its padding too, so neighbours are at most twice apart.
std::vector<int> decode_buckets(int max_tokens);

class CapturedGraph {
 public:
  CapturedGraph() = default;
  // Captures what `launch` launches on the stream. what: for messages.
  CapturedGraph(cudaStream_t stream, const std::string& what, const std::function<void()>& launch);
  ~CapturedGraph();
  CapturedGraph(CapturedGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  CapturedGraph& operator=(CapturedGraph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }

  bool empty() const { return graph_ == nullptr; }
  void replay(cudaStream_t stream) const;

 private:
  cudaGraphExec_t graph_ = nullptr;
};

// The graphs of one bucket.
struct StepGraphs {
  int n_tokens = 0;    // the bucket: tokens, sequences and rows
  AttentionGrid grid;  // that the layers were captured with
  CapturedGraph layers;
  CapturedGraph greedy_rows;  // SamplingPath::kGreedy, nothing to count; empty where the rows take several slices
  CapturedGraph full_rows;    // SamplingPath::kFull, with counts; likewise

  // The graph that samples n_rows rows as planned; null where they must be launched one by one.
  const CapturedGraph* rows_for(const RowPlan& plan, int n_rows) const;
};

// The smallest of the buckets that holds n_tokens; null where none does.
const StepGraphs* find_bucket(std::span<const StepGraphs> buckets, int n_tokens);

}  // namespace spate::cuda
