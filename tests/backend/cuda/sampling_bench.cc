// Times the sampling of a step by rows and by what is asked of it, in a replayed graph; a JSON line each:
// sampling_bench [--vocab N]. Logits are normal with a few that stand out, as a model's are.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sampling_harness.h"

namespace spate::cuda::testing {
namespace {

struct Mode {
  const char* name;
  SamplingParams sampling;
  int n_logprobs = 0;
};

constexpr Mode kModes[] = {
    {"greedy", {}},
    {"temperature", {.temperature = 1}},
    {"top_k+top_p+min_p", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f}},
    {"top_p", {.temperature = 1, .top_p = 0.95f}},
    {"min_p", {.temperature = 1, .min_p = 0.05f}},
    {"typical", {.temperature = 1, .typical_p = 0.95f}},
    {"flat top_p", {.temperature = 20, .top_p = 0.95f}},
    {"penalties",
     {.repetition_penalty = 1.1f, .presence_penalty = 0.2f, .frequency_penalty = 0.1f, .temperature = 0.8f}},
    {"greedy+logprobs", {}, 20},
    {"temperature+logprobs", {.temperature = 1}, 20},
};

std::vector<float> model_logits(int n_rows, int vocab_size, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 2.5f);
  std::vector<float> logits(static_cast<size_t>(n_rows) * vocab_size);
  for (float& x : logits) x = normal(random);
  for (int r = 0; r < n_rows; ++r)
    for (int i = 0; i < 12; ++i) logits[static_cast<size_t>(r) * vocab_size + random() % vocab_size] += 14 - i * 0.5f;
  return logits;
}

// Median and extremes of the time of a replay, in microseconds.
struct Timing {
  float median, min, max;
};

Timing time_graph(cudaGraphExec_t graph, cudaStream_t stream) {
  constexpr int kRounds = 9, kReplays = 100;
  cudaEvent_t begin = nullptr, end = nullptr;
  SPATE_CUDA(cudaEventCreate(&begin), "making an event");
  SPATE_CUDA(cudaEventCreate(&end), "making an event");
  std::vector<float> us;
  for (int round = 0; round <= kRounds; ++round) {
    SPATE_CUDA(cudaEventRecord(begin, stream), "timing");
    for (int i = 0; i < kReplays; ++i) SPATE_CUDA(cudaGraphLaunch(graph, stream), "replaying");
    SPATE_CUDA(cudaEventRecord(end, stream), "timing");
    SPATE_CUDA(cudaEventSynchronize(end), "timing");
    float ms = 0;
    SPATE_CUDA(cudaEventElapsedTime(&ms, begin, end), "timing");
    if (round > 0) us.push_back(1000 * ms / kReplays);  // the first warms up
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us.front(), us.back()};
}

void run(const Mode& mode, int n_rows, int vocab_size, const DeviceProfile& profile) {
  SamplingHarness harness({.vocab_size = vocab_size, .max_tokens = n_rows, .slice_rows = n_rows}, profile);
  std::mt19937 random(1);
  StepBatch batch = decode_batch(n_rows, vocab_size, random);
  for (const int32_t slot : batch.slot) {
    SlotOp op{.slot = slot, .sampling = mode.sampling};
    op.sampling.seed = slot;
    for (int i = 0; i < 500; ++i) op.history.push_back(static_cast<int32_t>(random() % vocab_size));
    batch.slot_ops.push_back(std::move(op));
  }
  for (Row& row : batch.rows) row.n_logprobs = mode.n_logprobs;
  const std::vector<float> logits = model_logits(n_rows, vocab_size, random);
  harness.device_step(batch, logits);
  harness.upload(batch);
  harness.upload_logits(logits, {.first = 0, .n = n_rows, .hidden = false});

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  SPATE_CUDA(cudaStreamBeginCapture(harness.stream(), cudaStreamCaptureModeThreadLocal), "capturing");
  if (harness.plan().counts) harness.count(n_rows, 0);
  sample_rows(harness.sample_args(0), harness.plan().path, n_rows, profile.dependent_launch, harness.stream());
  SPATE_CUDA(cudaStreamEndCapture(harness.stream(), &graph), "capturing");
  SPATE_CUDA(cudaGraphInstantiate(&exec, graph, 0), "instantiating");
  const Timing us = time_graph(exec, harness.stream());
  std::printf(
      "{\"bench\": \"sampling\", \"device\": \"%s\", \"mode\": \"%s\", \"rows\": %d, \"vocab\": %d, "
      "\"us\": %.2f, \"us_min\": %.2f, \"us_max\": %.2f}\n",
      profile.name.c_str(), mode.name, n_rows, vocab_size, us.median, us.min, us.max);
  std::fflush(stdout);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

int main_of_bench(int argc, char** argv) {
  int vocab_size = 128256;
  if (argc == 3 && std::strcmp(argv[1], "--vocab") == 0) vocab_size = std::atoi(argv[2]);
  if ((argc != 1 && argc != 3) || vocab_size < 1 || vocab_size > kMaxSamplingVocab) {
    std::fprintf(stderr, "usage: sampling_bench [--vocab N]\n");
    return 2;
  }
  const auto profile = probe_device(0);
  if (!profile.ok()) {
    std::fprintf(stderr, "%s\n", profile.error().message.c_str());
    return 7;
  }
  for (const Mode& mode : kModes)
    for (const int n_rows : {1, 8, 32, 64}) run(mode, n_rows, vocab_size, *profile);
  return 0;
}

}  // namespace
}  // namespace spate::cuda::testing

int main(int argc, char** argv) {
  return spate::cuda::testing::main_of_bench(argc, argv);
}
