// Times matmul() by shape, type and tokens; a JSON line each: matmul_bench [--tune KEY=VALUE]... [--tokens 1,2,...]
// [--types q4_k,...]
// [--shapes 8b|1.5b] [--product qkv|attn_output|gate_up|down|head]. A product runs in a replayed graph over enough
// copies of its weights that none is found in the second-level cache.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>
#include <string>

#include "backend/cuda/gemm.h"
#include "backend/cuda/matmul.h"

#include "device_vector.h"

namespace spate::cuda::testing {
namespace {

struct Shape {
  const char* name;
  int n_rows, n_cols;
  Epilogue epilogue;
};
constexpr Shape k8b[] = {{"qkv", 6144, 4096, Epilogue::kStore},
                         {"attn_output", 4096, 4096, Epilogue::kAdd},
                         {"gate_up", 14336, 4096, Epilogue::kSwiGlu},
                         {"down", 4096, 14336, Epilogue::kAdd},
                         {"head", 128256, 4096, Epilogue::kStore}};
constexpr Shape k1b5[] = {{"qkv", 2048, 1536, Epilogue::kStore},
                          {"attn_output", 1536, 1536, Epilogue::kAdd},
                          {"gate_up", 8960, 1536, Epilogue::kSwiGlu},
                          {"down", 1536, 8960, Epilogue::kAdd},
                          {"head", 151936, 1536, Epilogue::kStore}};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

void run(const Shape& shape, QuantType type, const std::vector<int>& token_counts, const DeviceProfile& profile,
         const Gemm* gemm) {
  const int max_tokens = *std::max_element(token_counts.begin(), token_counts.end());
  const int n_parts = shape.epilogue == Epilogue::kSwiGlu ? 2 : 1;
  const int64_t matrix_bytes = packed_bytes(type, shape.n_rows, shape.n_cols);
  const int copies = static_cast<int>(std::clamp<int64_t>((400 << 20) / (matrix_bytes * n_parts), 2, 24));
  std::vector<std::byte> noise(64 << 20);
  std::mt19937 random(1);
  for (size_t i = 0; i < noise.size(); i += 4) {
    const uint32_t bits = random() & 0xbbffbbff;  // no float16 in it is infinite
    std::memcpy(&noise[i], &bits, 4);
  }
  DeviceVector<std::byte> weights(matrix_bytes * n_parts * copies);
  for (int64_t at = 0; at < static_cast<int64_t>(weights.size()); at += noise.size())
    SPATE_CUDA(cudaMemcpy(weights.get() + at, noise.data(), std::min<int64_t>(noise.size(), weights.size() - at),
                          cudaMemcpyHostToDevice),
               "filling");
  const MatmulWorkspaceSize size = matmul_workspace_size(
      {.max_tokens = max_tokens,
       .decoded_elems = int64_t{padded_cols(shape.n_rows > 100000 ? 256 : shape.n_rows)} * padded_cols(shape.n_cols),
       .max_slots = 2 * shape.n_rows / kTileRows,
       .d_ff = shape.n_rows},
      profile);
  DeviceVector<float> partials(size.partial_elems), gate_up(size.gate_up_elems), y(size_t(max_tokens) * shape.n_rows);
  DeviceVector<uint32_t> counters(size.n_counters);
  DeviceVector<__half> decoded(size.decoded_elems), x(size_t(max_tokens) * padded_cols(shape.n_cols)),
      ff(size_t(max_tokens) * padded_cols(shape.n_rows));
  DeviceVector<std::byte> scratch(size.gemm_scratch_bytes);
  counters.fill(0);
  x.fill(0x11);
  y.fill(0);
  const MatmulWorkspace workspace{.partials = partials.get(),
                                  .partial_elems = size.partial_elems,
                                  .counters = counters.get(),
                                  .n_counters = size.n_counters,
                                  .gate_up = gate_up.get(),
                                  .decoded = decoded.get(),
                                  .decoded_elems = size.decoded_elems,
                                  .gemm_scratch = scratch.get(),
                                  .gemm = gemm};
  cudaStream_t stream;
  SPATE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  cudaEvent_t begin, end;
  SPATE_CUDA(cudaEventCreate(&begin), "an event");
  SPATE_CUDA(cudaEventCreate(&end), "an event");
  for (const int n_tokens : token_counts) {
    if (shape.n_rows > 100000 && n_tokens > 256) continue;  // the head has few rows
    const int n_launches = std::max(copies, 8);
    const auto launch_all = [&] {
      for (int i = 0; i < n_launches; ++i) {
        MatmulArgs args{.x = x.get(),
                        .n_parts = n_parts,
                        .epilogue = shape.epilogue,
                        .y = y.get(),
                        .y_stride = shape.n_rows,
                        .ff = ff.get()};
        for (int part = 0; part < n_parts; ++part)
          args.parts[part] = {weights.get() + (int64_t{i % copies} * n_parts + part) * matrix_bytes, type, shape.n_rows,
                              shape.n_cols, 0};
        matmul(args, n_tokens, workspace, profile, stream);
      }
    };
    launch_all();  // cuBLASLt chooses its algorithm outside a capture
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    SPATE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
    launch_all();
    SPATE_CUDA(cudaStreamEndCapture(stream, &graph), "capturing");
    SPATE_CUDA(cudaGraphInstantiate(&exec, graph, 0), "instantiating");
    std::vector<double> us;
    for (int repeat = 0; repeat < 7; ++repeat) {
      SPATE_CUDA(cudaEventRecord(begin, stream), "recording");
      SPATE_CUDA(cudaGraphLaunch(exec, stream), "launching");
      SPATE_CUDA(cudaEventRecord(end, stream), "recording");
      SPATE_CUDA(cudaStreamSynchronize(stream), "{} of {}, {} tokens", shape.name, quant_name(type), n_tokens);
      float ms = 0;
      SPATE_CUDA(cudaEventElapsedTime(&ms, begin, end), "timing");
      if (repeat > 1) us.push_back(ms * 1000.0 / n_launches);
    }
    std::sort(us.begin(), us.end());
    const double median = us[us.size() / 2];
    const double bytes = static_cast<double>(matrix_bytes) * n_parts;
    const double flops = 2.0 * n_tokens * shape.n_rows * n_parts * shape.n_cols;
    std::printf(
        "{\"shape\": \"%s\", \"type\": \"%s\", \"tokens\": %d, \"us\": %.2f, \"spread_us\": %.2f, \"gb_s\": %.0f, "
        "\"tflops\": %.1f}\n",
        shape.name, std::string(quant_name(type)).c_str(), n_tokens, median, us.back() - us.front(),
        bytes / median / 1e3, flops / median / 1e6);
    std::fflush(stdout);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaStreamDestroy(stream);
}

int main_of_bench(int argc, char** argv) {
  auto probed = probe_device(0);
  if (!probed.ok()) {
    std::fprintf(stderr, "%s\n", probed.error().message.c_str());
    return 1;
  }
  DeviceProfile profile = *probed;
  std::vector<int> token_counts = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048};
  std::vector<std::string> types = {"q4_k", "q6_k", "q8_0", "f16"};
  std::string shapes = "8b", product;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--tune") {
      if (auto tuned = profile.tune(value); !tuned.ok()) {
        std::fprintf(stderr, "%s\n", tuned.error().message.c_str());
        return 2;
      }
    } else if (option == "--tokens") {
      token_counts.clear();
      for (const std::string& n : split(value)) token_counts.push_back(std::atoi(n.c_str()));
    } else if (option == "--types") {
      types = split(value);
    } else if (option == "--product") {
      product = value;
    } else if (option == "--shapes") {
      shapes = value;
    } else {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return 2;
    }
  }
  auto gemm = Gemm::open();
  for (const std::string& name : types) {
    const auto type = quant_type_from_name(name);
    if (!type.has_value()) return 2;
    for (const Shape& shape : shapes == "8b" ? k8b : k1b5)
      if (product.empty() || product == shape.name)
        run(shape, *type, token_counts, profile, gemm.ok() ? gemm.value().get() : nullptr);
  }
  return 0;
}

}  // namespace
}  // namespace spate::cuda::testing

int main(int argc, char** argv) {
  return spate::cuda::testing::main_of_bench(argc, argv);
}
