// Times attention, RMSNorm and RoPE at the shapes of an 8B model; a JSON line each: attention_bench [--kv f16,q8_0,fp8]
// [--tune KEY=VALUE]... Everything runs in replayed graphs of dependent launches, as a step does; KV pages are shuffled
// over a pool that no cache holds. GB/s counts keys and values once, TFLOP/s the products under the causal mask.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <sstream>
#include <string>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/ops.h"

#include "device_vector.h"

namespace spate::cuda::testing {
namespace {

constexpr int kHeads = 32, kKvHeads = 8, kHeadDim = 128, kModel = 4096;
constexpr int64_t kPoolBytes = int64_t{4} << 30;  // many times the second-level cache

struct Timing {
  double median_us, spread_us;
};

// Of one of n_launches launches in a graph; `launch_one(i)` launches the i-th.
template <typename LaunchOne>
Timing time_graph(int n_launches, cudaStream_t stream, const LaunchOne& launch_one) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  SPATE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  for (int i = 0; i < n_launches; ++i) launch_one(i);
  SPATE_CUDA(cudaStreamEndCapture(stream, &graph), "capturing");
  SPATE_CUDA(cudaGraphInstantiate(&exec, graph, 0), "instantiating");
  cudaEvent_t begin, end;
  SPATE_CUDA(cudaEventCreate(&begin), "an event");
  SPATE_CUDA(cudaEventCreate(&end), "an event");
  std::vector<double> us;
  for (int repeat = 0; repeat < 9; ++repeat) {
    SPATE_CUDA(cudaEventRecord(begin, stream), "recording");
    SPATE_CUDA(cudaGraphLaunch(exec, stream), "launching");
    SPATE_CUDA(cudaEventRecord(end, stream), "recording");
    SPATE_CUDA(cudaStreamSynchronize(stream), "the benchmark");
    float ms = 0;
    SPATE_CUDA(cudaEventElapsedTime(&ms, begin, end), "timing");
    if (repeat > 1) us.push_back(ms * 1000.0 / n_launches);
  }
  std::sort(us.begin(), us.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  return {us[us.size() / 2], us.back() - us.front()};
}

// Memory and plan of one step, repeated for `n_layers` layers with pages of their own.
class Step {
 public:
  Step(const DeviceProfile& profile, KvType type, const std::vector<int>& n_q, const std::vector<int>& kv_len)
      : profile_(profile), type_(type), kv_len_(kv_len) {
    std::vector<int32_t> q_start = {0}, page_start = {0}, pages;
    for (size_t s = 0; s < kv_len.size(); ++s) {
      q_start.push_back(q_start.back() + n_q[s]);
      page_start.push_back(page_start.back() + (kv_len[s] + kPageTokens - 1) / kPageTokens);
    }
    n_tokens_ = q_start.back();
    const int64_t page_bytes = kv_page_bytes(type, kKvHeads, kHeadDim);
    const int64_t layer_bytes = page_start.back() * page_bytes;
    n_layers_ = static_cast<int>(std::clamp<int64_t>(kPoolBytes / layer_bytes, 2, 32));
    for (int i = 0; i < page_start.back(); ++i) pages.push_back(i);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    pages_ = std::make_unique<DeviceVector<int32_t>>(pages);
    std::vector<TokenPlace> places;
    for (size_t s = 0; s < kv_len.size(); ++s)
      for (int position = kv_len[s] - n_q[s]; position < kv_len[s]; ++position)
        places.push_back({.position = position, .page_plus_1 = pages[page_start[s] + position / kPageTokens] + 1});
    places_ = std::make_unique<DeviceVector<TokenPlace>>(places);
    kv_ = std::make_unique<DeviceVector<std::byte>>(layer_bytes * n_layers_);
    kv_->fill(0x11);  // small numbers in every type
    page_bytes_ = page_bytes;
    layer_bytes_ = layer_bytes;
    q_ = std::make_unique<DeviceVector<uint16_t>>(size_t(n_tokens_) * kHeads * kHeadDim);
    q_->fill(0x11);
    out_ = std::make_unique<DeviceVector<uint16_t>>(size_t(n_tokens_) * padded_cols(kHeads * kHeadDim));
    plan(q_start, pages);
  }

  int n_layers() const { return n_layers_; }
  int n_tokens() const { return n_tokens_; }

  void attend(int layer, cudaStream_t stream) const {
    AttentionArgs args{};
    args.q = reinterpret_cast<const __half*>(q_->get());
    args.kv = layer_kv(layer);
    args.batch = batch();
    args.work = planner_->work_at(reinterpret_cast<const std::byte*>(work_->get()));
    args.scratch = {decode_partials_->get(), prefill_partials_->get(), counters_->get()};
    args.scale = 0.0884f;
    args.n_heads = kHeads;
    args.n_kv_heads = kKvHeads;
    args.head_dim = kHeadDim;
    args.out = reinterpret_cast<__half*>(out_->get());
    args.dependent_launch = profile_.dependent_launch;
    attention(args, grid_, stream);
  }

  void rotate(int layer, const float* qkv, const float* frequencies, cudaStream_t stream) const {
    RopeKvArgs args{};
    args.raw = {.qkv = qkv, .frequencies = frequencies, .rotary_dim = kHeadDim};
    args.head_dim = kHeadDim;
    args.n_heads = kHeads;
    args.n_kv_heads = kKvHeads;
    args.batch = batch();
    args.kv = layer_kv(layer);
    args.q = reinterpret_cast<__half*>(q_->get());
    args.dependent_launch = profile_.dependent_launch;
    rope_and_write_kv(args, n_tokens_, stream);
  }

 private:
  void plan(const std::vector<int32_t>& q_start, const std::vector<int32_t>& pages) {
    const int n_seqs = static_cast<int>(kv_len_.size());
    planner_ = std::make_unique<AttentionPlanner>(AttentionShape{kHeads, kKvHeads, kHeadDim, type_}, profile_, n_seqs,
                                                  n_tokens_, *std::max_element(kv_len_.begin(), kv_len_.end()));
    std::vector<AttentionItem> block(planner_->work_bytes() / sizeof(AttentionItem) + 1);
    const std::vector<int32_t> kv_len(kv_len_.begin(), kv_len_.end());
    grid_ = planner_
                ->plan(q_start, kv_len, pages,
                       {reinterpret_cast<std::byte*>(block.data()), static_cast<size_t>(planner_->work_bytes())})
                .grid;
    work_ = std::make_unique<DeviceVector<AttentionItem>>(block);
    const AttentionScratchSize size = planner_->scratch_size();
    decode_partials_ = std::make_unique<DeviceVector<float>>(size.decode_elems);
    prefill_partials_ = std::make_unique<DeviceVector<float>>(size.prefill_elems);
    counters_ = std::make_unique<DeviceVector<uint32_t>>(size.n_counters);
    counters_->fill(0);
  }
  KvLayer layer_kv(int layer) const { return {kv_->get() + layer * layer_bytes_, page_bytes_, type_}; }
  DeviceBatch batch() const {
    DeviceBatch batch{};
    batch.pages = pages_->get();
    batch.places = places_->get();
    return batch;
  }

  DeviceProfile profile_;
  KvType type_;
  std::vector<int> kv_len_;
  int n_tokens_ = 0, n_layers_ = 0;
  int64_t page_bytes_ = 0, layer_bytes_ = 0;
  AttentionGrid grid_;
  std::unique_ptr<AttentionPlanner> planner_;
  std::unique_ptr<DeviceVector<int32_t>> pages_;
  std::unique_ptr<DeviceVector<TokenPlace>> places_;
  std::unique_ptr<DeviceVector<std::byte>> kv_;
  std::unique_ptr<DeviceVector<uint16_t>> q_, out_;
  std::unique_ptr<DeviceVector<AttentionItem>> work_;
  std::unique_ptr<DeviceVector<float>> decode_partials_, prefill_partials_;
  std::unique_ptr<DeviceVector<uint32_t>> counters_;
};

struct KvChoice {
  const char* name;
  KvType type;
};
constexpr KvChoice kKvTypes[] = {{"f16", KvType::kF16}, {"q8_0", KvType::kQ8_0}, {"fp8", KvType::kFp8}};

void bench_decode(const DeviceProfile& profile, const KvChoice& kv, int n_seqs, int kv_len, cudaStream_t stream) {
  const Step step(profile, kv.type, std::vector<int>(n_seqs, 1), std::vector<int>(n_seqs, kv_len));
  const double bytes = static_cast<double>(n_seqs) * kv_len / kPageTokens * kv_page_bytes(kv.type, kKvHeads, kHeadDim);
  const Timing t = time_graph(step.n_layers(), stream, [&](int layer) { step.attend(layer, stream); });
  std::printf(
      "{\"kernel\": \"decode\", \"kv\": \"%s\", \"seqs\": %d, \"kv_len\": %d, \"us\": %.2f, \"spread_us\": %.2f, "
      "\"gb_s\": %.0f}\n",
      kv.name, n_seqs, kv_len, t.median_us, t.spread_us, bytes / t.median_us / 1e3);
  std::fflush(stdout);
}

void bench_prefill(const DeviceProfile& profile, const KvChoice& kv, int n_q, int kv_len, cudaStream_t stream) {
  const Step step(profile, kv.type, {n_q}, {kv_len});
  const Timing t = time_graph(std::min(step.n_layers(), 8), stream, [&](int layer) { step.attend(layer, stream); });
  const double pairs = static_cast<double>(n_q) * (kv_len - n_q) + static_cast<double>(n_q) * (n_q + 1) / 2;
  std::printf(
      "{\"kernel\": \"prefill\", \"kv\": \"%s\", \"queries\": %d, \"kv_len\": %d, \"us\": %.2f, \"spread_us\": "
      "%.2f, \"tflops\": %.1f}\n",
      kv.name, n_q, kv_len, t.median_us, t.spread_us, 4.0 * kHeads * kHeadDim * pairs / t.median_us / 1e6);
  std::fflush(stdout);
}

void bench_small_kernels(const DeviceProfile& profile, const KvChoice& kv, int n_tokens, cudaStream_t stream) {
  constexpr int kLaunches = 100;
  const Step step(profile, kv.type, std::vector<int>(n_tokens, 1), std::vector<int>(n_tokens, 100));
  DeviceVector<float> qkv(size_t(n_tokens) * (kHeads + 2 * kKvHeads) * kHeadDim), frequencies(kHeadDim / 2);
  DeviceVector<float> residual(size_t(n_tokens) * kModel), weight(kModel);
  DeviceVector<uint16_t> x(size_t(n_tokens) * kModel);
  for (DeviceVector<float>* v : {&qkv, &frequencies, &residual, &weight}) v->fill(0x11);
  const Timing rope = time_graph(
      kLaunches, stream, [&](int i) { step.rotate(i % step.n_layers(), qkv.get(), frequencies.get(), stream); });
  NormArgs norm{};
  norm.residual = residual.get();
  norm.weight = weight.get();
  norm.x = reinterpret_cast<__half*>(x.get());
  norm.d_model = kModel;
  norm.epsilon = 1e-5f;
  norm.dependent_launch = profile.dependent_launch;
  const Timing norms = time_graph(kLaunches, stream, [&](int) { rms_norm(norm, n_tokens, stream); });
  std::printf("{\"kernel\": \"rope\", \"kv\": \"%s\", \"tokens\": %d, \"us\": %.2f, \"spread_us\": %.2f}\n", kv.name,
              n_tokens, rope.median_us, rope.spread_us);
  std::printf("{\"kernel\": \"rms_norm\", \"tokens\": %d, \"us\": %.2f, \"spread_us\": %.2f}\n", n_tokens,
              norms.median_us, norms.spread_us);
  std::fflush(stdout);
}

int main_of_bench(int argc, char** argv) {
  auto probed = probe_device(0);
  if (!probed.ok()) {
    std::fprintf(stderr, "%s\n", probed.error().message.c_str());
    return 1;
  }
  DeviceProfile profile = *probed;
  std::string types = "f16,q8_0,fp8";
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--tune") {
      if (auto tuned = profile.tune(value); !tuned.ok()) {
        std::fprintf(stderr, "%s\n", tuned.error().message.c_str());
        return 2;
      }
    } else if (option == "--kv" && !value.empty()) {
      types = value;
    } else {
      std::fprintf(stderr, "attention_bench [--kv f16,q8_0,fp8] [--tune KEY=VALUE]...\n");
      return 2;
    }
  }
  cudaStream_t stream;
  SPATE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  std::istringstream in(types);
  for (std::string name; std::getline(in, name, ',');) {
    const auto* kv =
        std::find_if(std::begin(kKvTypes), std::end(kKvTypes), [&](const auto& k) { return name == k.name; });
    if (kv == std::end(kKvTypes)) {
      std::fprintf(stderr, "no KV type '%s'\n", name.c_str());
      return 2;
    }
    for (const auto& [n_seqs, kv_len] : {std::pair(1, 512),
                                         {1, 4096},
                                         {1, 16384},
                                         {1, 65536},
                                         {8, 560},
                                         {16, 560},
                                         {32, 560},
                                         {64, 560},
                                         {8, 4096},
                                         {32, 4096},
                                         {64, 640}})
      bench_decode(profile, *kv, n_seqs, kv_len, stream);
    for (const auto& [n_q, kv_len] : {std::pair(512, 512), {512, 8192}, {2048, 2048}, {8192, 8192}})
      bench_prefill(profile, *kv, n_q, kv_len, stream);
    for (const int n_tokens : {1, 16, 32, 64, 512}) bench_small_kernels(profile, *kv, n_tokens, stream);
  }
  cudaStreamDestroy(stream);
  return 0;
}

}  // namespace
}  // namespace spate::cuda::testing

int main(int argc, char** argv) {
  return spate::cuda::testing::main_of_bench(argc, argv);
}
