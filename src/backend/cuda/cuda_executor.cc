#include "backend/cuda/cuda_executor.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/forward.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/gemm_fp8.h"
#include "backend/cuda/step_block.h"
#include "backend/cuda/step_graphs.h"
#include "backend/cuda/workspace.h"
#include "base/log.h"

namespace spate {

namespace cuda {

namespace {

// A stream of an executor; its work is ordered by itself alone.
class Stream {
 public:
  Stream() { SPATE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { SPATE_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaExecutorImpl final : public CudaExecutor {
 public:
  CudaExecutorImpl(std::shared_ptr<const Model> model, const MemoryPlan& plan, const CudaExecutorOptions& options);

  const ExecutorLimits& limits() const override { return plan_.limits; }
  std::string description() const override;
  const MemoryPlan& memory() const override { return plan_; }
  Counters counters() const override {
    std::lock_guard lock(mutex_);
    return counters_;
  }
  StepId enqueue(const StepBatch& batch) override;
  Result<StepOutput> wait(StepId id) override;

 private:
  // A step in flight.
  struct Step {
    PinnedMemory block;   // [plan_.block_bytes] read by the device until the step's copy of it has run
    PinnedMemory output;  // [max_step_output_bytes] written by the device before `done`
    Event done;
    std::vector<Row> rows;
    int n_tokens = 0, n_seqs = 0;
  };

  void make_pool();
  void open_gemm();
  std::vector<int> buckets() const;
  void warm_up();
  void capture();
  void capture_bucket(StepGraphs& graphs);
  void launch(const StepBatch& batch, Step& step);
  ForwardContext context(const StepLayout& layout) const;
  std::optional<Error> failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
  }
  void fail(const CudaError& error);

  std::shared_ptr<const Model> model_;
  const ModelSpec& spec_;
  MemoryPlan plan_;
  DeviceProfile profile_;
  Stream stream_;
  CudaWeights weights_;
  AttentionPlanner planner_;
  DeviceArena memory_;          // of everything below that is neither weights nor KV pages
  std::unique_ptr<Gemm> gemm_;  // null: this machine has none, or no step is long enough for it
  Workspace workspace_;
  SlotTable slots_;
  std::byte* device_block_;  // [plan_.block_bytes] of the step that runs; the stream orders its uses
  DeviceArena pool_;
  std::vector<KvLayer> kv_;                    // [n_layers]
  std::array<Step, kMaxStepsInFlight> steps_;  // of step id, at id % kMaxStepsInFlight
  std::vector<StepGraphs> graphs_;             // by ascending bucket
  RowPlan row_plan_;                           // of the step being enqueued
  int n_previous_rows_ = 0;                    // of the step enqueued last

  mutable std::mutex mutex_;  // of what follows: wait() may run beside enqueue()
  StepId enqueued_ = 0, waited_ = 0;
  Counters counters_;
  std::optional<Error> failure_;  // once the device has failed, every step does

  // The last member, so the first to go: nothing is freed under work that still runs, also when the constructor throws.
  struct Idle {
    cudaStream_t stream;
    ~Idle() { cudaStreamSynchronize(stream); }
  } idle_{stream_.get()};
};

CudaExecutorImpl::CudaExecutorImpl(std::shared_ptr<const Model> model, const MemoryPlan& plan,
                                   const CudaExecutorOptions& options)
    : model_(std::move(model)),
      spec_(model_->spec()),
      plan_(plan),
      profile_(options.profile),
      weights_(load_weights(*model_, options.n_threads, options.progress)),
      planner_(make_attention_planner(spec_, plan.limits, plan.kv_type, profile_)),
      memory_("the workspace", plan.workspace_bytes, true),
      workspace_(make_workspace(spec_, plan.limits, profile_, planner_.scratch_size(), memory_)),
      slots_({.max_seqs = plan.limits.max_seqs, .vocab_size = spec_.vocab_size}, memory_),
      device_block_(memory_.take<std::byte>(plan.block_bytes)) {
  make_pool();
  open_gemm();
  for (Step& step : steps_) {
    step.block = PinnedMemory("a step's block", plan_.block_bytes);
    step.output = PinnedMemory("a step's output", max_step_output_bytes(spec_, plan_.limits));
  }
  const auto loaded = std::chrono::steady_clock::now();
  warm_up();
  if (profile_.graphs) capture();
  log::debug("{}: warmed up and captured graphs of {} batch sizes in {:.2f} s", profile_.name, graphs_.size(),
             std::chrono::duration<double>(std::chrono::steady_clock::now() - loaded).count());
}

// Zeroed: a page's rows past its sequence's length are multiplied by probabilities of zero, which must not meet a NaN.
void CudaExecutorImpl::make_pool() {
  pool_ = DeviceArena("the KV cache", plan_.kv_bytes(), true);
  const int64_t page_bytes = plan_.kv_page_bytes / spec_.n_layers;
  for (int layer = 0; layer < spec_.n_layers; ++layer)
    kv_.push_back({.pages = pool_.data() + layer * plan_.limits.n_pages * page_bytes,
                   .page_bytes = page_bytes,
                   .type = plan_.kv_type});
}

void CudaExecutorImpl::open_gemm() {
  if (plan_.limits.max_step_tokens < profile_.gemm_min_tokens) return;
  Result<std::unique_ptr<Gemm>> gemm = Gemm::open();
  if (gemm) {
    gemm_ = std::move(*gemm);
    workspace_.matmul.gemm = gemm_.get();
    if (profile_.prefill_fp8) measure_fp8_scales(layer_matrices(weights_), workspace_.matmul, stream_.get());
  } else {
    log::warn("long prompts will be slower to read: {}", gemm.error().message);
  }
}

std::string CudaExecutorImpl::description() const {
  return fmt::format("{}, KV cache of {} tokens in {}{}", profile_.name, plan_.kv_tokens(), kv_type_name(plan_.kv_type),
                     profile_.prefill_fp8 ? ", long prefill in fp8" : "");
}

ForwardContext CudaExecutorImpl::context(const StepLayout& layout) const {
  return {.spec = spec_,
          .weights = weights_,
          .workspace = workspace_,
          .profile = profile_,
          .kv = kv_,
          .slots = slots_.device(),
          .step = device_step(layout, planner_, device_block_),
          .stream = stream_.get()};
}

// Runs steps without a single real token, of every batch size that is to be captured and of prompts' chunks up to the
// longest: what the driver loads or sets up at a kernel's first launch must not fall into a capture, or into a request.
// The device's block is still all zeros: no tokens, no work for attention.
void CudaExecutorImpl::warm_up() {
  const auto run = [&](int n_tokens, int n_rows, const AttentionGrid& grid) {
    const ForwardContext step = context(StepLayout({n_tokens, n_rows, n_rows}, plan_.attention_bytes));
    run_layers(step, n_tokens, grid);
    for (const SamplingPath path : {SamplingPath::kGreedy, SamplingPath::kFull})
      run_rows(step, {.slices = {{.first = 0, .n = n_rows, .hidden = false}}, .path = path, .counts = true}, n_tokens);
  };
  for (const int n : buckets()) run(n, std::min(n, workspace_.slice_rows), planner_.decode_grid(n));
  const std::span block(steps_[0].block.data(), static_cast<size_t>(plan_.attention_bytes));
  const auto run_chunk = [&](int n_tokens) {
    const int32_t q_start[] = {0, n_tokens}, kv_len[] = {n_tokens};
    const std::vector<int32_t> pages((n_tokens + kPageTokens - 1) / kPageTokens);
    run(n_tokens, 1, planner_.plan(q_start, kv_len, pages, block).grid);
  };
  const int longest = plan_.limits.max_step_tokens;
  for (int n = profile_.gemm_min_tokens; n < longest; n *= 2) run_chunk(n);
  run_chunk(longest);
  SPATE_CUDA(cudaStreamSynchronize(stream_.get()), "running an empty step");
}

std::vector<int> CudaExecutorImpl::buckets() const {
  return decode_buckets(std::min(plan_.limits.max_seqs, plan_.limits.max_step_tokens));
}

void CudaExecutorImpl::capture() {
  for (const int n_tokens : buckets()) {
    graphs_.emplace_back();
    graphs_.back().n_tokens = n_tokens;
    capture_bucket(graphs_.back());
  }
  SPATE_CUDA(cudaStreamSynchronize(stream_.get()), "uploading the graphs of {} batch sizes", graphs_.size());
}

void CudaExecutorImpl::capture_bucket(StepGraphs& graphs) {
  const int n = graphs.n_tokens;
  const StepLayout layout({n, n, n}, plan_.attention_bytes);
  const ForwardContext step = context(layout);
  graphs.grid = planner_.decode_grid(n);
  graphs.layers = CapturedGraph(stream_.get(), fmt::format("the layers for {} sequences", n),
                                [&] { run_layers(step, n, graphs.grid); });
  if (n > workspace_.slice_rows) return;
  RowPlan rows{.slices = {{.first = 0, .n = n, .hidden = false}}};
  graphs.greedy_rows =
      CapturedGraph(stream_.get(), fmt::format("drawing {} rows, greedily", n), [&] { run_rows(step, rows, n); });
  rows.path = SamplingPath::kFull;
  rows.counts = true;
  graphs.full_rows = CapturedGraph(stream_.get(), fmt::format("drawing {} rows", n), [&] { run_rows(step, rows, n); });
}

void CudaExecutorImpl::fail(const CudaError& error) {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = Error::backend(fmt::format("{}: {}", profile_.name, error.what()));
}

StepId CudaExecutorImpl::enqueue(const StepBatch& batch) {
  check_batch(batch, plan_.limits, spec_.vocab_size);
  StepId id = 0;
  {
    std::lock_guard lock(mutex_);
    SPATE_CHECK(enqueued_ - waited_ < kMaxStepsInFlight, "{} steps are in flight already", kMaxStepsInFlight);
    id = ++enqueued_;
  }
  for (const int32_t row : batch.from_row)
    SPATE_CHECK(row < n_previous_rows_, "a token is to come from row {} of {}", row, n_previous_rows_);
  SPATE_CHECK(batch.n_rows() <= max_step_rows(plan_.limits), "{} rows of a step of at most {}", batch.n_rows(),
              max_step_rows(plan_.limits));
  n_previous_rows_ = batch.n_rows();
  Step& step = steps_[id % kMaxStepsInFlight];
  step.rows = batch.rows;
  step.n_tokens = batch.n_tokens();
  step.n_seqs = batch.n_seqs();
  if (failure()) return id;
  try {
    launch(batch, step);
  } catch (const CudaError& error) {
    fail(error);
  }
  return id;
}

// Everything goes to one stream, so a step's copies wait for the step before it, and nothing here waits at all.
void CudaExecutorImpl::launch(const StepBatch& batch, Step& step) {
  SPATE_CUDA(cudaSetDevice(profile_.device), "using device {}", profile_.device);
  const int n_tokens = batch.n_tokens(), n_rows = batch.n_rows();
  const bool decode = n_tokens == batch.n_seqs();
  const StepGraphs* graphs = decode && n_rows <= n_tokens ? find_bucket(graphs_, n_tokens) : nullptr;
  const StepShape shape = graphs == nullptr ? StepShape{n_tokens, batch.n_seqs(), n_rows}
                                            : StepShape{graphs->n_tokens, graphs->n_tokens, graphs->n_tokens};
  const StepLayout layout(shape, plan_.attention_bytes);

  slots_.apply(batch.slot_ops, stream_.get());
  std::byte* block = step.block.data();
  const FilledBlock filled = fill_block(batch, layout, slots_, workspace_.slice_rows, spec_.d_model, planner_,
                                        {block, static_cast<size_t>(plan_.block_bytes)}, row_plan_);
  const auto copy = [&](int64_t begin, int64_t end) {
    if (begin == end) return;
    SPATE_CUDA(cudaMemcpyAsync(device_block_ + begin, block + begin, static_cast<size_t>(end - begin),
                               cudaMemcpyHostToDevice, stream_.get()),
               "copying {} bytes of a step of {} tokens to the device", end - begin, n_tokens);
  };
  SPATE_CHECK(row_plan_.output_bytes <= step.output.n_bytes(), "{} bytes of output where there is room for {}",
              row_plan_.output_bytes, step.output.n_bytes());
  copy(0, filled.head_bytes);
  copy(filled.tail_begin, filled.tail_end);

  const ForwardContext pass = context(layout);
  const bool replay_layers = graphs != nullptr && graphs->grid.covers(filled.grid);
  if (replay_layers) {
    graphs->layers.replay(stream_.get());
  } else {
    run_layers(pass, n_tokens, filled.grid);
  }
  const CapturedGraph* rows = graphs == nullptr ? nullptr : graphs->rows_for(row_plan_, n_rows);
  if (rows != nullptr) {
    rows->replay(stream_.get());
  } else {
    run_rows(pass, row_plan_, n_tokens);
  }
  if (row_plan_.output_bytes > 0)
    SPATE_CUDA(cudaMemcpyAsync(step.output.data(), workspace_.output, static_cast<size_t>(row_plan_.output_bytes),
                               cudaMemcpyDeviceToHost, stream_.get()),
               "copying {} bytes of the output of {} rows to the host", row_plan_.output_bytes, n_rows);
  SPATE_CUDA(cudaEventRecord(step.done.get(), stream_.get()), "marking the end of a step of {} tokens", n_tokens);

  std::lock_guard lock(mutex_);
  ++(replay_layers ? counters_.layers_replayed : counters_.layers_launched);
  ++(rows != nullptr ? counters_.rows_replayed : counters_.rows_launched);
}

Result<StepOutput> CudaExecutorImpl::wait(StepId id) {
  {
    std::lock_guard lock(mutex_);
    SPATE_CHECK(id == waited_ + 1 && id <= enqueued_, "step {} is not the oldest one in flight", id);
  }
  Step& step = steps_[id % kMaxStepsInFlight];
  StepOutput output;
  if (!failure()) {
    try {
      SPATE_CUDA(cudaSetDevice(profile_.device), "using device {}", profile_.device);
      SPATE_CUDA(cudaEventSynchronize(step.done.get()), "running a step of {} tokens in {} sequences, {} rows",
                 step.n_tokens, step.n_seqs, step.rows.size());
      read_rows(step.rows, step.output.data(), spec_.vocab_size, spec_.d_model, output.rows);
    } catch (const CudaError& error) {
      fail(error);
    }
  }
  std::lock_guard lock(mutex_);
  waited_ = id;
  if (failure_) return *failure_;
  return output;
}

Result<void> check_shape(const Model& model) {
  const ModelSpec& spec = model.spec();
  const auto refuse = [&](std::string_view what, int value, std::string_view there_are) {
    return Error::unsupported(fmt::format("{}: {} of {}; on a GPU spate has {}; use --device cpu", model.file().path(),
                                          what, value, there_are));
  };
  if (spec.vocab_size > kMaxSamplingVocab) return refuse("a vocabulary", spec.vocab_size, "up to 524288 tokens");
  if (spec.d_ff % 2 != 0) return refuse("a feed-forward width", spec.d_ff, "even ones");
  if (!has_attention_kernel(spec.head_dim)) return refuse("a head size", spec.head_dim, "64, 80, 96, 128 and 256");
  return {};
}

// Prefill in FP8 that was asked for is not left out in silence.
Result<void> check_prefill(const DeviceProfile& profile, const ExecutorLimits& limits) {
  if (!profile.prefill_fp8) return {};
  if (limits.max_step_tokens < profile.gemm_min_tokens) {
    log::warn("prefill in FP8 is for steps of {} tokens and more; here a step has at most {}", profile.gemm_min_tokens,
              limits.max_step_tokens);
    return {};
  }
  SPATE_TRY(const std::unique_ptr<Gemm> gemm, Gemm::open());
  return {};
}

}  // namespace

}  // namespace cuda

Result<std::unique_ptr<CudaExecutor>> make_cuda_executor(const std::shared_ptr<const Model>& model,
                                                         const CudaExecutorOptions& options) {
  SPATE_TRY_VOID(cuda::check_shape(*model));
  const cuda::DeviceProfile& profile = options.profile;
  SPATE_TRY_VOID(cuda::check_prefill(profile, options.limits));
  SPATE_TRY(const int64_t available, cuda::available_device_bytes(profile));
  SPATE_TRY(const cuda::MemoryPlan plan,
            cuda::plan_memory(*model, options.limits, options.kv_type, profile, available));
  log::info("{}: {}", profile.name, cuda::describe(plan));
  try {
    std::unique_ptr<CudaExecutor> executor = std::make_unique<cuda::CudaExecutorImpl>(model, plan, options);
    SPATE_TRY_VOID(model->file().check_intact());
    return executor;
  } catch (const cuda::CudaError& error) {
    const std::string message = fmt::format("{}: {}", profile.name, error.what());
    return error.code() == cudaErrorMemoryAllocation ? Error::out_of_resources(message) : Error::backend(message);
  }
}

}  // namespace spate
