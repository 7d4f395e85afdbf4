#include "backend/cuda/forward.h"

namespace spate::cuda {

namespace {

// Of one layer; what it points to outlives the calls.
struct LayerPass {
  const ForwardContext& context;
  const CudaLayer& layer;
  const KvLayer& kv;
  int n_tokens;
  bool is_first;
  const float* attn_norm_after;  // of the layer after this one; null: there is none
  // Norms are folded into the products around them (norm_fold.h). The first, which has no product before it, is not; it
  // has a kernel of its own, as the one before the LM head.
  bool folds;

  void product(const MatmulArgs& args) const {
    matmul(args, n_tokens, context.workspace.matmul, context.profile, context.stream);
  }

  // Of the attention's (0) or the feed-forward's (1) input.
  enum NormOf { kAttention = 0, kFeedForward = 1 };

  void normalise(NormOf of) const {
    rms_norm({.residual = context.workspace.residual,
              .weight = of == kAttention ? layer.attn_norm : layer.ffn_norm,
              .gather = nullptr,
              .x = context.workspace.normed,
              .hidden = nullptr,
              .d_model = context.spec.d_model,
              .epsilon = context.spec.norm_epsilon,
              .next_scale = folds ? context.workspace.scales[1 - of] : nullptr,
              .dependent_launch = context.profile.dependent_launch},
             n_tokens, context.stream);
  }
  // The norm that the products of its input are to make up for.
  FoldedNorm folded(NormOf of) const {
    const Workspace& w = context.workspace;
    return {.squares = w.squares,
            .scale = w.scales[of],
            .next_scale = w.scales[1 - of],
            .epsilon = context.spec.norm_epsilon};
  }
  // The norm after a product that adds to the residual. weight: null where that norm is not folded.
  NextNorm next(NormOf of, const float* weight) const {
    if (!folds || weight == nullptr) return {};
    const Workspace& w = context.workspace;
    return {.x = w.normed, .weight = weight, .scale = w.scales[of], .squares = w.squares};
  }

  // Queries, keys and values. normalised: the whole norm is in the activations.
  MatmulArgs qkv(bool normalised) const {
    const Workspace& w = context.workspace;
    return {.x = w.normed,
            .parts = {layer.q, layer.k, layer.v},
            .n_parts = 3,
            .epilogue = Epilogue::kStore,
            .y = w.qkv,
            .y_stride = context.spec.q_dim() + 2 * context.spec.kv_dim(),
            .norm = normalised ? FoldedNorm{} : folded(kAttention)};
  }
  MatmulArgs attention_output() const {
    const Workspace& w = context.workspace;
    return {.x = w.attended,
            .parts = {layer.attn_output},
            .n_parts = 1,
            .epilogue = Epilogue::kAdd,
            .y = w.residual,
            .y_stride = context.spec.d_model,
            .next = next(kFeedForward, layer.ffn_norm)};
  }
  MatmulArgs gate_up() const {
    const Workspace& w = context.workspace;
    return {.x = w.normed,
            .parts = {layer.gate, layer.up},
            .n_parts = 2,
            .epilogue = Epilogue::kSwiGlu,
            .ff = w.ff,
            .norm = folds ? folded(kFeedForward) : FoldedNorm{}};
  }
  MatmulArgs down() const {
    const Workspace& w = context.workspace;
    return {.x = w.ff,
            .x_scale = 1 / kFfScale,
            .parts = {layer.down},
            .n_parts = 1,
            .epilogue = Epilogue::kAdd,
            .y = w.residual,
            .y_stride = context.spec.d_model,
            .next = next(kAttention, attn_norm_after)};
  }

  void attention_layer(const AttentionGrid& grid) const {
    const bool normalises = is_first || !folds;
    if (normalises) normalise(kAttention);
    product(qkv(normalises));
    rotate_and_store();
    attend(grid);
    product(attention_output());
  }

  void rotate_and_store() const {
    const ModelSpec& spec = context.spec;
    rope_and_write_kv({.raw = {.qkv = context.workspace.qkv,
                               .bias = layer.qkv_bias,
                               .q_norm = layer.q_norm,
                               .k_norm = layer.k_norm,
                               .frequencies = context.weights.frequencies,
                               .magnitude = spec.rope.magnitude,
                               .norm_epsilon = spec.norm_epsilon,
                               .style = spec.rope.style,
                               .rotary_dim = spec.rope.rotary_dim},
                       .n_heads = spec.n_heads,
                       .n_kv_heads = spec.n_kv_heads,
                       .head_dim = spec.head_dim,
                       .batch = context.step.batch,
                       .kv = kv,
                       .q = context.workspace.q,
                       .dependent_launch = context.profile.dependent_launch},
                      n_tokens, context.stream);
  }

  void attend(const AttentionGrid& grid) const {
    const ModelSpec& spec = context.spec;
    attention({.q = context.workspace.q,
               .kv = kv,
               .batch = context.step.batch,
               .work = context.step.attention,
               .scratch = context.workspace.attention,
               .scale = spec.attention_scale,
               .n_heads = spec.n_heads,
               .n_kv_heads = spec.n_kv_heads,
               .head_dim = spec.head_dim,
               .out = context.workspace.attended,
               .dependent_launch = context.profile.dependent_launch},
              grid, context.stream);
  }

  void feed_forward_layer() const {
    if (!folds) normalise(kFeedForward);
    product(gate_up());
    product(down());
  }
};

}  // namespace

void run_layers(const ForwardContext& context, int n_tokens, const AttentionGrid& grid) {
  embed({.table = context.weights.embedding,
         .type = context.weights.embedding_type,
         .d_model = context.spec.d_model,
         .row_bytes = context.weights.embedding_row_bytes,
         .batch = context.step.batch,
         .previous_tokens = context.workspace.drawn,
         .residual = context.workspace.residual,
         .dependent_launch = context.profile.dependent_launch},
        n_tokens, context.stream);
  const std::vector<CudaLayer>& layers = context.weights.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerPass pass{.context = context,
                         .layer = layers[i],
                         .kv = context.kv[i],
                         .n_tokens = n_tokens,
                         .is_first = i == 0,
                         .attn_norm_after = i + 1 < layers.size() ? layers[i + 1].attn_norm : nullptr,
                         .folds = can_fold_norm(n_tokens, context.profile)};
    pass.attention_layer(grid);
    pass.feed_forward_layer();
  }
}

namespace {

void count(const ForwardContext& context, int n_tokens, int slice) {
  count_tokens({.tokens = context.step.batch.tokens,
                .from_row = context.step.batch.from_row,
                .previous_tokens = context.workspace.drawn,
                .counts = context.step.token_counts,
                .resolved = context.workspace.resolved,
                .vocab_size = context.spec.vocab_size,
                .slots = context.slots},
               n_tokens, slice, context.profile.dependent_launch, context.stream);
}

void gather(const ForwardContext& context, const RowSlice& slice) {
  rms_norm({.residual = context.workspace.residual,
            .weight = context.weights.output_norm,
            .gather = context.step.row_tokens + slice.first,
            .x = context.workspace.head_x,
            .hidden = slice.hidden ? context.workspace.hidden : nullptr,
            .d_model = context.spec.d_model,
            .epsilon = context.spec.norm_epsilon,
            .dependent_launch = context.profile.dependent_launch},
           slice.n, context.stream);
}

void sample(const ForwardContext& context, const RowSlice& slice, SamplingPath path) {
  const Workspace& w = context.workspace;
  matmul({.x = w.head_x,
          .parts = {context.weights.output},
          .n_parts = 1,
          .epilogue = Epilogue::kStore,
          .y = w.logits,
          .y_stride = logits_stride(context.spec.vocab_size)},
         slice.n, w.matmul, context.profile, context.stream);
  sample_rows({.logits = w.logits,
               .rows = context.step.rows,
               .n_rows_real = context.step.n_rows_real,
               .first_row = slice.first,
               .vocab_size = context.spec.vocab_size,
               .slots = context.slots,
               .scratch = w.sampling,
               .drawn = w.drawn,
               .output = w.output},
              path, slice.n, context.profile.dependent_launch, context.stream);
}

void copy_hidden_rows(const ForwardContext& context, const RowSlice& slice) {
  copy_hidden({.hidden = context.workspace.hidden,
               .rows = context.step.rows,
               .n_rows_real = context.step.n_rows_real,
               .first_row = slice.first,
               .d_model = context.spec.d_model,
               .drawn = context.workspace.drawn,
               .output = context.workspace.output},
              slice.n, context.profile.dependent_launch, context.stream);
}

}  // namespace

void run_rows(const ForwardContext& context, const RowPlan& plan, int n_tokens) {
  if (plan.counts) count(context, n_tokens, 0);
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    const RowSlice& slice = plan.slices[i];
    if (plan.counts && i > 0) count(context, n_tokens, static_cast<int>(i));
    gather(context, slice);
    if (slice.hidden) {
      copy_hidden_rows(context, slice);
    } else {
      sample(context, slice, plan.path);
    }
  }
  // Without any slice, the tail was counted as slice 0.
  if (plan.has_tail && !plan.slices.empty()) count(context, n_tokens, static_cast<int>(plan.slices.size()));
}

}  // namespace spate::cuda
