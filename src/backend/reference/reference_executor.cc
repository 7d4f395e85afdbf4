#include "backend/reference/reference_executor.h"

#include <algorithm>
#include <cmath>

#include "backend/host_executor.h"
#include "base/thread_pool.h"

namespace spate {

namespace {

using Vector = std::vector<float>;

struct Matrix {
  int64_t n_rows = 0, n_cols = 0;
  Vector values;  // [n_rows, n_cols]
};

Matrix decode(const Weight& weight) {
  if (!weight) return {};
  Matrix matrix{weight.n_rows, weight.n_cols, Vector(weight.n_rows * weight.n_cols)};
  const QuantTraits& traits = quant_traits(weight.type());
  traits.decode(weight.tensor->data.data(), static_cast<int64_t>(matrix.values.size()) / traits.block_elems,
                matrix.values.data());
  return matrix;
}

struct Layer {
  Matrix attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, attn_output, ffn_norm, gate, up, down;
};

float dot(const float* a, const float* b, int64_t n) {
  // Eight running sums, so that the compiler may use vectors without reordering anything.
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  float total = 0;
  for (float sum : sums) total += sum;
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

void rms_norm(float* x, const Vector& weight, int64_t n, float epsilon) {
  const float scale = 1 / std::sqrt(dot(x, x, n) / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) x[i] *= scale * weight[i];
}

void rope(float* head, const RopeSpec& spec, const Vector& frequencies, int64_t position) {
  const int n_pairs = spec.rotary_dim / 2;
  for (int i = 0; i < n_pairs; ++i) {
    float& a = spec.style == RopeStyle::kNorm ? head[2 * i] : head[i];
    float& b = spec.style == RopeStyle::kNorm ? head[2 * i + 1] : head[i + n_pairs];
    const double angle = static_cast<double>(position) * frequencies[i];
    const auto c = static_cast<float>(std::cos(angle) * spec.magnitude),
               s = static_cast<float>(std::sin(angle) * spec.magnitude);
    const float x = a, y = b;
    a = x * c - y * s;
    b = x * s + y * c;
  }
}

class ReferenceExecutor final : public HostExecutor {
 public:
  ReferenceExecutor(std::shared_ptr<const Model> model, const ExecutorLimits& limits, int n_threads)
      : HostExecutor(limits, model->spec().vocab_size, model->spec().d_model, n_threads),
        model_(std::move(model)),
        spec_(model_->spec()),
        pool_(n_threads),
        frequencies_(spec_.rope.frequencies()),
        embedding_(decode(model_->token_embedding())),
        output_norm_(decode(model_->output_norm())),
        output_(spec_.tied_embeddings ? Matrix{} : decode(model_->output())) {
    for (const LayerWeights& w : model_->layers())
      layers_.push_back({decode(w.attn_norm), decode(w.attn_q), decode(w.attn_k), decode(w.attn_v),
                         decode(w.attn_q_bias), decode(w.attn_k_bias), decode(w.attn_v_bias), decode(w.attn_q_norm),
                         decode(w.attn_k_norm), decode(w.attn_output), decode(w.ffn_norm), decode(w.ffn_gate),
                         decode(w.ffn_up), decode(w.ffn_down)});
    cache_.resize(static_cast<size_t>(limits.n_pages) * kPageTokens * spec_.kv_elems_per_token());
    start();
  }
  ~ReferenceExecutor() override { stop(); }

  std::string description() const override { return fmt::format("reference, float32, {} threads", pool_.size()); }

 protected:
  Result<void> run_layers(const StepBatch& batch, std::span<const int32_t> tokens) override {
    const int64_t d_model = spec_.d_model;
    Vector x;
    for (int32_t token : tokens)
      x.insert(x.end(), &embedding_.values[token * d_model], &embedding_.values[token * d_model] + d_model);
    for (int i = 0; i < spec_.n_layers; ++i) {
      add(x, attention(batch, i, normed(x, layers_[i].attn_norm)));
      add(x, feed_forward(layers_[i], normed(x, layers_[i].ffn_norm)));
    }
    x = normed(x, output_norm_);
    hidden_.clear();
    for (const Row& row : batch.rows)
      hidden_.insert(hidden_.end(), &x[row.token_index * d_model], &x[row.token_index * d_model] + d_model);
    return {};
  }

  const float* row_hidden() const override { return hidden_.data(); }

  void row_logits(int first, int n, float* logits) override {
    const Vector input(&hidden_[static_cast<int64_t>(first) * spec_.d_model],
                       &hidden_[static_cast<int64_t>(first) * spec_.d_model] + static_cast<int64_t>(n) * spec_.d_model);
    const Vector result = multiply(spec_.tied_embeddings ? embedding_ : output_, input);
    std::copy(result.begin(), result.end(), logits);
  }

  void parallel_rows(int n, const std::function<void(int, int)>& fn) override {
    pool_.parallel_for(n, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) fn(thread, static_cast<int>(row));
    });
  }

 private:
  static void add(Vector& x, const Vector& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  Vector normed(Vector x, const Matrix& weight) const {
    for (size_t i = 0; i < x.size(); i += spec_.d_model)
      rms_norm(&x[i], weight.values, spec_.d_model, spec_.norm_epsilon);
    return x;
  }

  // y[t, r] = x[t] . w[r] + bias[r]
  Vector multiply(const Matrix& w, const Vector& x, const Matrix& bias = {}) {
    const int64_t n_tokens = static_cast<int64_t>(x.size()) / w.n_cols;
    Vector y(n_tokens * w.n_rows);
    pool_.parallel_for(w.n_rows, 16, [&](int, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t t = 0; t < n_tokens; ++t)
          y[t * w.n_rows + r] =
              dot(&w.values[r * w.n_cols], &x[t * w.n_cols], w.n_cols) + (bias.n_cols > 0 ? bias.values[r] : 0);
    });
    return y;
  }

  Vector feed_forward(const Layer& layer, const Vector& x) {
    Vector gate = multiply(layer.gate, x);
    const Vector up = multiply(layer.up, x);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    return multiply(layer.down, gate);
  }

  // Key (which = 0) or value (which = 1) of one position and KV head: [head_dim].
  float* cached(int layer, int32_t page, int offset, int which, int kv_head) {
    const int64_t slot = (static_cast<int64_t>(layer) * limits().n_pages + page) * kPageTokens + offset;
    return &cache_[((slot * 2 + which) * spec_.n_kv_heads + kv_head) * spec_.head_dim];
  }

  Vector attention(const StepBatch& batch, int index, const Vector& x) {
    const Layer& layer = layers_[index];
    Vector q = multiply(layer.q, x, layer.q_bias), k = multiply(layer.k, x, layer.k_bias);
    const Vector v = multiply(layer.v, x, layer.v_bias);
    Vector out(q.size());
    const int head_dim = spec_.head_dim;
    for (int s = 0; s < batch.n_seqs(); ++s) {
      const int32_t* pages = &batch.groups[0].pages[batch.groups[0].start[s]];
      for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
        const int position = batch.kv_len[s] - batch.q_start[s + 1] + t;
        for (int h = 0; h < spec_.n_heads; ++h)
          place(&q[(static_cast<int64_t>(t) * spec_.n_heads + h) * head_dim], layer.q_norm, position);
        for (int h = 0; h < spec_.n_kv_heads; ++h) {
          float* key = &k[(static_cast<int64_t>(t) * spec_.n_kv_heads + h) * head_dim];
          place(key, layer.k_norm, position);
          std::copy_n(key, head_dim, cached(index, pages[position / kPageTokens], position % kPageTokens, 0, h));
          std::copy_n(&v[(static_cast<int64_t>(t) * spec_.n_kv_heads + h) * head_dim], head_dim,
                      cached(index, pages[position / kPageTokens], position % kPageTokens, 1, h));
        }
        for (int h = 0; h < spec_.n_heads; ++h) {
          const int64_t at = (static_cast<int64_t>(t) * spec_.n_heads + h) * head_dim;
          attend(index, pages, position, h / spec_.gqa_group(), &q[at], &out[at]);
        }
      }
    }
    return multiply(layer.attn_output, out);
  }

  void place(float* head, const Matrix& norm, int position) {
    if (spec_.has_qk_norm) rms_norm(head, norm.values, spec_.head_dim, spec_.norm_epsilon);
    rope(head, spec_.rope, frequencies_, position);
  }

  // out = softmax(scale * q . keys[0..position]) . values
  void attend(int layer, const int32_t* pages, int position, int kv_head, const float* q, float* out) {
    Vector weights(position + 1);
    for (int p = 0; p <= position; ++p)
      weights[p] = spec_.attention_scale *
                   dot(q, cached(layer, pages[p / kPageTokens], p % kPageTokens, 0, kv_head), spec_.head_dim);
    const float maximum = *std::max_element(weights.begin(), weights.end());
    float sum = 0;
    for (float& weight : weights) sum += weight = std::exp(weight - maximum);
    for (int p = 0; p <= position; ++p) {
      const float* value = cached(layer, pages[p / kPageTokens], p % kPageTokens, 1, kv_head);
      for (int d = 0; d < spec_.head_dim; ++d) out[d] += weights[p] / sum * value[d];
    }
  }

  std::shared_ptr<const Model> model_;
  const ModelSpec& spec_;
  ThreadPool pool_;
  Vector frequencies_;  // [rotary_dim / 2]
  Matrix embedding_, output_norm_, output_;
  std::vector<Layer> layers_;
  Vector cache_;   // [n_layers, n_pages, kPageTokens, key | value, n_kv_heads, head_dim]
  Vector hidden_;  // [R, d_model]
};

}  // namespace

Result<std::unique_ptr<Executor>> make_reference_executor(const std::shared_ptr<const Model>& model,
                                                          const ExecutorLimits& limits, int n_threads) {
  std::unique_ptr<Executor> executor = std::make_unique<ReferenceExecutor>(model, limits, n_threads);
  SPATE_TRY_VOID(model->file().check_intact());
  return executor;
}

}  // namespace spate
