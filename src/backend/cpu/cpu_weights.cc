#include "backend/cpu/cpu_weights.h"

namespace spate::cpu {

namespace {

class Loader {
 public:
  Loader(const Model& model, bool repack, ThreadPool& pool, const std::function<void(double)>& progress)
      : model_(model), repack_(repack), pool_(pool), progress_(progress) {}

  PackedMatrix matrix(const Weight& weight) {
    const std::byte* rows = weight.tensor->data.data();
    if (!repack_) return PackedMatrix::borrow(weight.type(), rows, weight.n_rows, weight.n_cols);
    const MappedFile& file = model_.file().file(weight.tensor->file_index);
    const size_t n_bytes = weight.tensor->data.size();
    file.will_need(weight.tensor->offset, n_bytes);
    PackedMatrix packed = PackedMatrix::pack(weight.type(), rows, weight.n_rows, weight.n_cols, pool_);
    file.release(weight.tensor->offset, n_bytes);
    bytes_done_ += static_cast<int64_t>(n_bytes);
    if (progress_) progress_(static_cast<double>(bytes_done_) / static_cast<double>(model_.weight_bytes_per_token()));
    return packed;
  }

  CpuLayer layer(const LayerWeights& w) {
    const auto values = [](const Weight& weight) { return weight ? vector_values(weight) : std::vector<float>(); };
    return {.attn_norm = values(w.attn_norm),
            .ffn_norm = values(w.ffn_norm),
            .q_bias = values(w.attn_q_bias),
            .k_bias = values(w.attn_k_bias),
            .v_bias = values(w.attn_v_bias),
            .q_norm = values(w.attn_q_norm),
            .k_norm = values(w.attn_k_norm),
            .q = matrix(w.attn_q),
            .k = matrix(w.attn_k),
            .v = matrix(w.attn_v),
            .attn_output = matrix(w.attn_output),
            .gate = matrix(w.ffn_gate),
            .up = matrix(w.ffn_up),
            .down = matrix(w.ffn_down)};
  }

 private:
  const Model& model_;
  bool repack_;
  ThreadPool& pool_;
  const std::function<void(double)>& progress_;
  int64_t bytes_done_ = 0;
};

}  // namespace

CpuWeights load_weights(const Model& model, bool repack, ThreadPool& pool,
                        const std::function<void(double)>& progress) {
  Loader loader(model, repack, pool, progress);
  std::vector<CpuLayer> layers;
  for (const LayerWeights& w : model.layers()) layers.push_back(loader.layer(w));
  CpuWeights weights{.layers = std::move(layers),
                     .output_norm = vector_values(model.output_norm()),
                     .output = loader.matrix(model.output())};
  if (progress) progress(1);
  return weights;
}

}  // namespace spate::cpu
