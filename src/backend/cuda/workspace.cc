#include "backend/cuda/workspace.h"

#include <algorithm>

namespace spate::cuda {

namespace {

// Hands out nothing, and counts what was asked for.
class Counter {
 public:
  template <typename T>
  T* take(int64_t n_elems) {
    n_bytes_ += aligned(n_elems * static_cast<int64_t>(sizeof(T)));
    return nullptr;
  }
  int64_t n_bytes() const { return n_bytes_; }

 private:
  int64_t n_bytes_ = 0;
};

SamplingScratch take_scratch(int n_rows, int vocab_size, DeviceArena& arena) {
  return take_sampling_scratch(n_rows, vocab_size, arena);
}
SamplingScratch take_scratch(int n_rows, int vocab_size, Counter& counter) {
  counter.take<std::byte>(sampling_scratch_bytes(n_rows, vocab_size));
  return {};
}

// Rows whose logits are computed at a time: as many as 128 MB hold, of which the head's weights are read at full speed.
// Sampling takes as much again.
int slice_rows(const ModelSpec& spec, const ExecutorLimits& limits) {
  constexpr int64_t kBudgetElems = int64_t{32} << 20;
  return static_cast<int>(std::clamp<int64_t>(kBudgetElems / spec.vocab_size, 1, max_step_rows(limits)));
}

MatmulDemand matmul_demand(const ModelSpec& spec, const ExecutorLimits& limits) {
  const auto elems = [](int rows, int cols) { return int64_t{padded_cols(rows)} * padded_cols(cols); };
  const auto panels = [](int rows) { return (rows + kTileRows - 1) / kTileRows; };
  return {.max_tokens = limits.max_step_tokens,
          // The LM head is not among them: it has few rows to multiply.
          .decoded_elems = std::max({elems(spec.q_dim(), spec.d_model), elems(spec.kv_dim(), spec.d_model),
                                     elems(spec.d_model, spec.q_dim()), 2 * elems(spec.d_ff, spec.d_model)}),
          .max_slots = std::max({panels(spec.q_dim()) + 2 * panels(spec.kv_dim()), panels(spec.d_model),
                                 2 * panels(spec.d_ff), panels(spec.vocab_size)}),
          .d_ff = spec.d_ff,
          .max_cols = std::max({spec.d_model, spec.q_dim(), spec.d_ff})};
}

// One list for counting and for taking.
template <typename Memory>
Workspace lay_out(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                  const AttentionScratchSize& attention, Memory& memory) {
  const int64_t n = limits.max_step_tokens;
  Workspace w;
  w.residual = memory.template take<float>(n * spec.d_model);
  w.normed = memory.template take<__half>(n * padded_cols(spec.d_model));
  w.qkv = memory.template take<float>(n * (spec.q_dim() + 2 * spec.kv_dim()));
  w.q = memory.template take<__half>(n * spec.q_dim());
  w.attended = memory.template take<__half>(n * padded_cols(spec.q_dim()));
  w.ff = memory.template take<__half>(n * padded_cols(spec.d_ff));
  const int64_t n_folded = std::min<int64_t>(n, max_folded_tokens(profile));
  w.squares = memory.template take<float>(n_folded * squares_stride(spec.d_model));
  for (float*& scales : w.scales) scales = memory.template take<float>(n_folded);
  w.resolved = memory.template take<int32_t>(n);
  w.drawn = memory.template take<int32_t>(max_step_rows(limits));
  w.output = memory.template take<std::byte>(max_step_output_bytes(spec, limits));
  w.slice_rows = slice_rows(spec, limits);
  w.head_x = memory.template take<__half>(int64_t{w.slice_rows} * padded_cols(spec.d_model));
  w.hidden = memory.template take<float>(int64_t{w.slice_rows} * spec.d_model);
  w.logits = memory.template take<float>(w.slice_rows * logits_stride(spec.vocab_size));
  w.sampling = take_scratch(w.slice_rows, spec.vocab_size, memory);

  const MatmulWorkspaceSize size = matmul_workspace_size(matmul_demand(spec, limits), profile);
  w.matmul = {.partials = memory.template take<float>(size.partial_elems),
              .partial_elems = size.partial_elems,
              .counters = memory.template take<uint32_t>(size.n_counters),
              .n_counters = size.n_counters,
              .gate_up = memory.template take<float>(size.gate_up_elems),
              .gate_up_elems = size.gate_up_elems,
              .decoded = size.decoded_elems > 0 ? memory.template take<__half>(size.decoded_elems) : nullptr,
              .decoded_elems = size.decoded_elems,
              .gemm_scratch = memory.template take<std::byte>(size.gemm_scratch_bytes)};
  if (size.fp8_tokens > 0)
    w.matmul.fp8 = {.x = memory.template take<std::byte>(size.fp8_x_bytes),
                    .x_bytes = size.fp8_x_bytes,
                    .factors = memory.template take<float>(size.fp8_tokens),
                    .max_tokens = size.fp8_tokens};
  w.attention = {.decode_partials = memory.template take<float>(attention.decode_elems),
                 .prefill_partials = memory.template take<float>(attention.prefill_elems),
                 .counters = memory.template take<uint32_t>(attention.n_counters)};
  return w;
}

}  // namespace

int64_t max_step_output_bytes(const ModelSpec& spec, const ExecutorLimits& limits) {
  return max_output_bytes(max_step_rows(limits), limits.max_step_tokens, spec.d_model);
}

int64_t workspace_bytes(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                        const AttentionScratchSize& attention) {
  Counter counter;
  lay_out(spec, limits, profile, attention, counter);
  return counter.n_bytes();
}

Workspace make_workspace(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                         const AttentionScratchSize& attention, DeviceArena& arena) {
  return lay_out(spec, limits, profile, attention, arena);
}

}  // namespace spate::cuda
