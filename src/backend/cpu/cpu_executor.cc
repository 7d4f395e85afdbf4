#include "backend/cpu/cpu_executor.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <new>
#include <sys/mman.h>

#include "backend/cpu/aligned_memory.h"
#include "backend/cpu/attention_plan.h"
#include "backend/cpu/cpu_weights.h"
#include "backend/cpu/ops.h"
#include "backend/host_executor.h"
#include "base/cgroup.h"
#include "base/thread_pool.h"

namespace spate {

namespace cpu {

namespace {

// Zeroed memory that the kernel commits as it is touched: the KV pool costs what is used of it.
class LazyMemory {
 public:
  explicit LazyMemory(size_t n_bytes) : n_bytes_(n_bytes) {
    data_ = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~LazyMemory() { munmap(data_, n_bytes_); }
  LazyMemory(const LazyMemory&) = delete;
  LazyMemory& operator=(const LazyMemory&) = delete;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  size_t n_bytes_;
};

KvLayout kv_layout(const ModelSpec& spec) {
  KvLayout layout{.n_kv_heads = spec.n_kv_heads, .head_dim = spec.head_dim};
  layout.page_stride = layout.elems_per_page();
  return layout;
}

size_t kv_cache_bytes(const ModelSpec& spec, int n_pages) {
  return sizeof(uint16_t) * static_cast<size_t>(spec.n_layers) * n_pages * kv_layout(spec).page_stride;
}

class CpuExecutor final : public HostExecutor {
 public:
  CpuExecutor(std::shared_ptr<const Model> model, const CpuExecutorOptions& options);
  ~CpuExecutor() override { stop(); }

  std::string description() const override {
    return fmt::format("CPU, {} threads, {}{}", pool_.size(), isa_name(isa_),
                       repack_ ? "" : ", weights as in the file");
  }

 protected:
  Result<void> run_layers(const StepBatch& batch, std::span<const int32_t> tokens) override;
  const float* row_hidden() const override { return hidden_.data(); }
  void row_logits(int first, int n, float* logits) override;
  void parallel_rows(int n, const std::function<void(int, int)>& fn) override {
    pool_.parallel_for(n, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) fn(thread, static_cast<int>(row));
    });
  }

 private:
  // fn(token) for every token of the step.
  template <typename Fn>
  void each_token(const Fn& fn) {
    constexpr int64_t kGrain = 2;  // one token is not worth waking a thread for
    pool_.parallel_for(n_tokens_, kGrain, [&](int, int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) fn(t);
    });
  }

  // Of the first n_tokens_ rows of x.
  Activations fill(const AlignedFloats& x, int n_cols, bool need_int8) {
    return activations_.fill(pool_, isa_, x.data(), n_tokens_, n_cols, need_int8, step_tokens_);
  }

  void prepare(const StepBatch& batch);
  void embed(std::span<const int32_t> tokens);
  void normalise(const std::vector<float>& weight);
  void attention_layer(const StepBatch& batch, int layer);
  void rotate_and_store(const StepBatch& batch, int layer);
  bool wanted(const StepBatch& batch, int layer, const AttentionWork& work) const;
  void attend(const StepBatch& batch, int layer);
  void keep_rows(const StepBatch& batch);
  AttentionItem attention_item(const StepBatch& batch, int layer, int seq, int kv_head, int first_token, int thread);
  void feed_forward_layer(const CpuLayer& layer);
  Activations gated_activations(const CpuLayer& layer, const Activations& input);
  void gather_rows(const StepBatch& batch);
  uint16_t* layer_cache(int layer) const {
    return cache_.as<uint16_t>() + static_cast<int64_t>(layer) * limits().n_pages * layout_.page_stride;
  }

  std::shared_ptr<const Model> model_;
  const ModelSpec& spec_;
  ThreadPool pool_;
  Isa isa_;
  bool repack_;
  const OpTable& ops_;
  CpuWeights weights_;
  KvLayout layout_;
  LazyMemory cache_;                // [n_layers][n_pages] pages
  std::vector<float> frequencies_;  // [rotary_dim / 2]

  // The step being run. Each buffer holds the first n_tokens_ rows of its shape.
  int step_tokens_ = 0;
  int n_tokens_ = 0;                   // step_tokens_; from the last layer's attention on, those of rows
  std::vector<int32_t> seq_;           // [max_step_tokens] sequence of each token
  std::vector<int32_t> position_;      // [max_step_tokens]
  AlignedFloats cos_sin_;              // [max_step_tokens, 2, rotary_dim / 2]
  AlignedFloats x_;                    // [max_step_tokens, d_model] the residual stream
  AlignedFloats normed_;               // [max_step_tokens, d_model]
  AlignedFloats q_;                    // [max_step_tokens, q_dim]
  AlignedFloats k_, v_;                // [max_step_tokens, kv_dim]
  AlignedFloats attended_;             // [max_step_tokens, q_dim]
  AlignedFloats gate_, up_;            // [max_step_tokens, d_ff]
  std::vector<int32_t> token_of_row_;  // [R] where a row's token is among those that are kept
  AlignedFloats hidden_;               // [R, d_model] after the last norm
  ActivationBuffer activations_, gated_activations_;
  AttentionPlan plan_;
  AlignedFloats attention_scratch_;  // [n_threads, scratch_elems_]
  size_t scratch_elems_;
  LazyMemory partials_;  // of attention split over keys: few steps need much of it
};

CpuExecutor::CpuExecutor(std::shared_ptr<const Model> model, const CpuExecutorOptions& options)
    : HostExecutor(options.limits, model->spec().vocab_size, model->spec().d_model, options.n_threads),
      model_(std::move(model)),
      spec_(model_->spec()),
      pool_(options.n_threads),
      isa_(options.isa),
      repack_(options.repack),
      ops_(op_table(options.isa)),
      weights_(load_weights(*model_, options.repack, pool_, options.progress)),
      layout_(kv_layout(spec_)),
      cache_(kv_cache_bytes(spec_, options.limits.n_pages)),
      frequencies_(spec_.rope.frequencies()),
      activations_(options.limits.max_step_tokens, std::max({spec_.d_model, spec_.d_ff, spec_.q_dim()}),
                   options.tiles ? kTileMinTokens : kNoTiles),
      gated_activations_(options.limits.max_step_tokens, spec_.d_ff),
      scratch_elems_(attention_scratch_elems(AttentionPlan::max_queries(spec_.gqa_group()), spec_.head_dim)),
      partials_(sizeof(float) * AttentionPlan::max_partials_elems(options.limits.n_pages, spec_.gqa_group(),
                                                                  spec_.head_dim, options.n_threads)) {
  const auto rows = static_cast<size_t>(options.limits.max_step_tokens);
  seq_.resize(rows);
  position_.resize(rows);
  cos_sin_.resize(rows * spec_.rope.rotary_dim);
  x_.resize(rows * spec_.d_model);
  normed_.resize(rows * spec_.d_model);
  q_.resize(rows * spec_.q_dim());
  k_.resize(rows * spec_.kv_dim());
  v_.resize(rows * spec_.kv_dim());
  attended_.resize(rows * spec_.q_dim());
  gate_.resize(rows * spec_.d_ff);
  up_.resize(rows * spec_.d_ff);
  hidden_.resize(rows * spec_.d_model);
  attention_scratch_.resize(scratch_elems_ * options.n_threads);
  start();
}

Result<void> CpuExecutor::run_layers(const StepBatch& batch, std::span<const int32_t> tokens) {
  prepare(batch);
  embed(tokens);
  for (int layer = 0; layer < spec_.n_layers; ++layer) {
    attention_layer(batch, layer);
    if (n_tokens_ > 0) feed_forward_layer(weights_.layers[layer]);
    note_progress();
  }
  gather_rows(batch);
  return model_->file().check_intact();
}

void CpuExecutor::prepare(const StepBatch& batch) {
  step_tokens_ = n_tokens_ = batch.n_tokens();
  for (int s = 0; s < batch.n_seqs(); ++s)
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
      seq_[t] = s;
      position_[t] = batch.kv_len[s] - batch.q_start[s + 1] + t;
    }
  const int n_pairs = spec_.rope.rotary_dim / 2;
  each_token([&](int64_t t) {
    float* out = &cos_sin_[t * n_pairs * 2];
    for (int i = 0; i < n_pairs; ++i) {
      const double angle = static_cast<double>(position_[t]) * frequencies_[i];
      out[i] = static_cast<float>(std::cos(angle) * spec_.rope.magnitude);
      out[n_pairs + i] = static_cast<float>(std::sin(angle) * spec_.rope.magnitude);
    }
  });
  plan_.make(batch, spec_.n_kv_heads, spec_.gqa_group(), spec_.head_dim, pool_.size());
}

void CpuExecutor::embed(std::span<const int32_t> tokens) {
  const Weight& embedding = model_->token_embedding();
  const QuantTraits& traits = quant_traits(embedding.type());
  each_token([&](int64_t t) {
    traits.decode(embedding.row(tokens[t]), spec_.d_model / traits.block_elems, &x_[t * spec_.d_model]);
  });
}

void CpuExecutor::normalise(const std::vector<float>& weight) {
  each_token([&](int64_t t) {
    ops_.rms_norm(&x_[t * spec_.d_model], weight.data(), spec_.norm_epsilon, spec_.d_model,
                  &normed_[t * spec_.d_model]);
  });
}

void CpuExecutor::attention_layer(const StepBatch& batch, int index) {
  const CpuLayer& layer = weights_.layers[index];
  const auto bias = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
  normalise(layer.attn_norm);
  const bool int8 = layer.q.takes_int8() || layer.k.takes_int8() || layer.v.takes_int8();
  const Activations input = fill(normed_, spec_.d_model, int8);
  const LinearJob projections[] = {
      {.weight = &layer.q, .input = input, .bias = bias(layer.q_bias), .y = q_.data(), .y_stride = spec_.q_dim()},
      {.weight = &layer.k, .input = input, .bias = bias(layer.k_bias), .y = k_.data(), .y_stride = spec_.kv_dim()},
      {.weight = &layer.v, .input = input, .bias = bias(layer.v_bias), .y = v_.data(), .y_stride = spec_.kv_dim()},
  };
  run_linear(pool_, isa_, projections);
  rotate_and_store(batch, index);
  attend(batch, index);
  if (index == spec_.n_layers - 1) keep_rows(batch);
  if (n_tokens_ == 0) return;
  const LinearJob output{.weight = &layer.attn_output,
                         .input = fill(attended_, spec_.q_dim(), layer.attn_output.takes_int8()),
                         .y = x_.data(),
                         .y_stride = spec_.d_model,
                         .accumulate = true};
  run_linear(pool_, isa_, {&output, 1});
}

void CpuExecutor::rotate_and_store(const StepBatch& batch, int index) {
  const CpuLayer& layer = weights_.layers[index];
  const int head_dim = spec_.head_dim, rotary_dim = spec_.rope.rotary_dim;
  const auto rope = spec_.rope.style == RopeStyle::kNorm ? ops_.rope_norm : ops_.rope_neox;
  uint16_t* cache = layer_cache(index);
  each_token([&](int64_t t) {
    const float* cos_sin = &cos_sin_[t * rotary_dim];
    const auto place = [&](float* heads, int n_heads, const std::vector<float>& norm) {
      for (int h = 0; h < n_heads; ++h) {
        float* head = heads + static_cast<int64_t>(h) * head_dim;
        if (!norm.empty()) ops_.rms_norm(head, norm.data(), spec_.norm_epsilon, head_dim, head);
        rope(head, cos_sin, rotary_dim);
      }
    };
    place(&q_[t * spec_.q_dim()], spec_.n_heads, layer.q_norm);
    place(&k_[t * spec_.kv_dim()], spec_.n_kv_heads, layer.k_norm);
    const PageTable& table = batch.groups[0];
    const int32_t page = table.pages[table.start[seq_[t]] + position_[t] / kPageTokens];
    ops_.store_kv(&k_[t * spec_.kv_dim()], &v_[t * spec_.kv_dim()], layout_, cache + page * layout_.page_stride,
                  position_[t] % kPageTokens);
  });
}

AttentionItem CpuExecutor::attention_item(const StepBatch& batch, int layer, int seq, int kv_head, int first_token,
                                          int thread) {
  const PageTable& table = batch.groups[0];
  const int64_t at = static_cast<int64_t>(first_token) * spec_.q_dim() +
                     static_cast<int64_t>(kv_head) * spec_.gqa_group() * spec_.head_dim;
  return {.cache = layer_cache(layer),
          .pages = &table.pages[table.start[seq]],
          .layout = layout_,
          .kv_head = kv_head,
          .scale = spec_.attention_scale,
          .gqa_group = spec_.gqa_group(),
          .q = &q_[at],
          .q_stride = spec_.q_dim(),
          .out = &attended_[at],
          .out_stride = spec_.q_dim(),
          .n_tokens = 1,
          .first_position = position_[first_token],
          .scratch = &attention_scratch_[thread * scratch_elems_]};
}

// Of the last layer's attention only the tokens of rows are wanted.
bool CpuExecutor::wanted(const StepBatch& batch, int layer, const AttentionWork& work) const {
  if (layer < spec_.n_layers - 1) return true;
  const auto row = std::lower_bound(batch.rows.begin(), batch.rows.end(), work.first_token,
                                    [](const Row& r, int token) { return r.token_index < token; });
  return row != batch.rows.end() && row->token_index < work.first_token + work.n_tokens;
}

void CpuExecutor::attend(const StepBatch& batch, int layer) {
  pool_.parallel_for(static_cast<int64_t>(plan_.works.size()), 1, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionWork& work = plan_.works[i];
      if (!wanted(batch, layer, work)) continue;
      AttentionItem item = attention_item(batch, layer, work.seq, work.kv_head, work.first_token, thread);
      item.n_tokens = work.n_tokens;
      item.unit_begin = work.unit_begin;
      item.unit_end = work.unit_end;
      item.partials = work.partials < 0 ? nullptr : partials_.as<float>() + work.partials;
      ops_.attend(item);
    }
  });
  pool_.parallel_for(static_cast<int64_t>(plan_.merges.size()), 1, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionMerge& merge = plan_.merges[i];
      const int token = batch.q_start[merge.seq];
      ops_.merge_attention(attention_item(batch, layer, merge.seq, merge.kv_head, token, thread),
                           partials_.as<float>() + merge.partials, merge.n_units);
    }
  });
}

// The step goes on with the tokens of its rows alone: after the last layer's keys and values nobody asks for the
// others. Of a prompt that is all of a layer's products but three, for one token instead of hundreds.
void CpuExecutor::keep_rows(const StepBatch& batch) {
  n_tokens_ = 0;
  token_of_row_.clear();
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    const int64_t token = batch.rows[r].token_index;
    if (r == 0 || token != batch.rows[r - 1].token_index) {
      const int64_t to = n_tokens_++;
      const auto move_row = [&](AlignedFloats& rows, int64_t width) {
        if (to != token) std::copy_n(&rows[token * width], width, &rows[to * width]);
      };
      move_row(x_, spec_.d_model);
      move_row(attended_, spec_.q_dim());
    }
    token_of_row_.push_back(n_tokens_ - 1);
  }
}

void CpuExecutor::feed_forward_layer(const CpuLayer& layer) {
  normalise(layer.ffn_norm);
  const bool int8 = layer.gate.takes_int8() || layer.up.takes_int8();
  const Activations input = fill(normed_, spec_.d_model, int8);
  const LinearJob down{.weight = &layer.down,
                       .input = gated_activations(layer, input),
                       .y = x_.data(),
                       .y_stride = spec_.d_model,
                       .accumulate = true};
  run_linear(pool_, isa_, {&down, 1});
}

Activations CpuExecutor::gated_activations(const CpuLayer& layer, const Activations& input) {
  const GatedJob gated{.gate = &layer.gate, .up = &layer.up, .input = input, .gate_multiply = ops_.silu_multiply};
  if (layer.down.type() != QuantType::kF32 && takes_gated_tiles(isa_, gated))
    return run_gated(pool_, isa_, gated, gated_activations_);
  const LinearJob gate_up[] = {
      {.weight = &layer.gate, .input = input, .y = gate_.data(), .y_stride = spec_.d_ff},
      {.weight = &layer.up, .input = input, .y = up_.data(), .y_stride = spec_.d_ff},
  };
  run_linear(pool_, isa_, gate_up);
  each_token([&](int64_t t) { ops_.silu_multiply(&gate_[t * spec_.d_ff], &up_[t * spec_.d_ff], spec_.d_ff); });
  return fill(gate_, spec_.d_ff, layer.down.takes_int8());
}

void CpuExecutor::gather_rows(const StepBatch& batch) {
  hidden_.resize(std::max(hidden_.size(), static_cast<size_t>(batch.n_rows()) * spec_.d_model));
  pool_.parallel_for(batch.n_rows(), 4, [&](int, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      ops_.rms_norm(&x_[static_cast<int64_t>(token_of_row_[r]) * spec_.d_model], weights_.output_norm.data(),
                    spec_.norm_epsilon, spec_.d_model, &hidden_[r * spec_.d_model]);
  });
}

void CpuExecutor::row_logits(int first, int n, float* logits) {
  const float* hidden = &hidden_[static_cast<int64_t>(first) * spec_.d_model];
  const LinearJob head{.weight = &weights_.output,
                       .input = activations_.fill(pool_, isa_, hidden, n, spec_.d_model, weights_.output.takes_int8()),
                       .y = logits,
                       .y_stride = spec_.vocab_size};
  run_linear(pool_, isa_, {&head, 1});
}

}  // namespace

}  // namespace cpu

Result<std::unique_ptr<Executor>> make_cpu_executor(const std::shared_ptr<const Model>& model,
                                                    const CpuExecutorOptions& options) {
  SPATE_CHECK(isa_supported(options.isa), "instruction set {} is not available here", isa_name(options.isa));
  // The pool's memory is taken page by page as it is used, so a pool that can never fit must be refused here.
  const auto kv_bytes = static_cast<double>(cpu::kv_cache_bytes(model->spec(), options.limits.n_pages));
  const auto weight_bytes = static_cast<double>(model->weight_bytes_per_token());
  const auto memory_bytes = static_cast<double>(usable_memory_bytes());
  const Error too_large = Error::out_of_resources(fmt::format(
      "{}: {:.1f} GB of weights and {:.1f} GB of KV cache do not fit in the {:.1f} GB of memory that this process may "
      "use; ask for a smaller context or fewer sequences",
      model->file().path(), weight_bytes * 1e-9, kv_bytes * 1e-9, memory_bytes * 1e-9));
  if (kv_bytes + weight_bytes > memory_bytes) return too_large;
  std::unique_ptr<Executor> executor;
  try {
    executor = std::make_unique<cpu::CpuExecutor>(model, options);
  } catch (const std::bad_alloc&) {
    return too_large;
  }
  SPATE_TRY_VOID(model->file().check_intact());
  return executor;
}

}  // namespace spate
