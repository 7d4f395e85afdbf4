#include "model/model.h"

#include <set>

#include "model/all_weights.h"

namespace spate {

namespace {

// Finds tensors by name, checks their shapes, and remembers which it handed out.
class Binder {
 public:
  explicit Binder(const GgufFile& file) : file_(file) {}

  // name is a matrix [n_rows, n_cols] (n_rows = 1: a vector) that the model cannot do without.
  Result<Weight> matrix(const std::string& name, int64_t n_rows, int64_t n_cols) {
    const GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) return Error::bad_file(file_.path(), fmt::format("tensor '{}' is missing", name));
    if (tensor->dims[0] != n_cols || tensor->dims[1] != n_rows || tensor->dims[2] != 1 || tensor->dims[3] != 1)
      return Error::bad_file(
          file_.path(),
          fmt::format("tensor '{}' is [{}, {}, {}, {}]; the hyper-parameters make it [{}, {}]", name, tensor->dims[0],
                      tensor->dims[1], tensor->dims[2], tensor->dims[3], n_cols, n_rows));
    if (quant_traits(tensor->type).decode == nullptr)
      return Error::unsupported(fmt::format("{}: tensor '{}' has type {}, which spate does not run", file_.path(), name,
                                            quant_name(tensor->type)));
    used_.insert(tensor);
    return Weight{.tensor = tensor, .n_rows = n_rows, .n_cols = n_cols};
  }

  Result<Weight> vector(const std::string& name, int64_t n_elems) {
    SPATE_TRY(const Weight weight, matrix(name, 1, n_elems));
    const QuantType type = weight.type();
    if (type != QuantType::kF32 && type != QuantType::kF16 && type != QuantType::kBF16)
      return Error::unsupported(fmt::format("{}: tensor '{}' has type {}; spate runs vectors of F32, F16 or BF16",
                                            file_.path(), name, quant_name(type)));
    return weight;
  }

  void use(std::string_view name) { used_.insert(file_.find_tensor(name)); }

  // A tensor that nothing asked for would change the numbers if it were left out.
  Result<void> check_all_used() const {
    for (const GgufTensor& tensor : file_.tensors())
      if (!used_.contains(&tensor))
        return Error::unsupported(fmt::format("{}: tensor '{}' is not part of this architecture as spate runs it",
                                              file_.path(), tensor.name));
    return {};
  }

 private:
  const GgufFile& file_;
  std::set<const GgufTensor*> used_;
};

Result<LayerWeights> bind_layer(Binder& binder, const ModelSpec& spec, int index) {
  const auto name = [&](std::string_view suffix) { return fmt::format("blk.{}.{}", index, suffix); };
  LayerWeights layer;
  SPATE_TRY(layer.attn_norm, binder.vector(name("attn_norm.weight"), spec.d_model));
  SPATE_TRY(layer.attn_q, binder.matrix(name("attn_q.weight"), spec.q_dim(), spec.d_model));
  SPATE_TRY(layer.attn_k, binder.matrix(name("attn_k.weight"), spec.kv_dim(), spec.d_model));
  SPATE_TRY(layer.attn_v, binder.matrix(name("attn_v.weight"), spec.kv_dim(), spec.d_model));
  if (spec.has_qkv_bias) {
    SPATE_TRY(layer.attn_q_bias, binder.vector(name("attn_q.bias"), spec.q_dim()));
    SPATE_TRY(layer.attn_k_bias, binder.vector(name("attn_k.bias"), spec.kv_dim()));
    SPATE_TRY(layer.attn_v_bias, binder.vector(name("attn_v.bias"), spec.kv_dim()));
  }
  if (spec.has_qk_norm) {
    SPATE_TRY(layer.attn_q_norm, binder.vector(name("attn_q_norm.weight"), spec.head_dim));
    SPATE_TRY(layer.attn_k_norm, binder.vector(name("attn_k_norm.weight"), spec.head_dim));
  }
  SPATE_TRY(layer.attn_output, binder.matrix(name("attn_output.weight"), spec.d_model, spec.q_dim()));
  SPATE_TRY(layer.ffn_norm, binder.vector(name("ffn_norm.weight"), spec.d_model));
  SPATE_TRY(layer.ffn_gate, binder.matrix(name("ffn_gate.weight"), spec.d_ff, spec.d_model));
  SPATE_TRY(layer.ffn_up, binder.matrix(name("ffn_up.weight"), spec.d_ff, spec.d_model));
  SPATE_TRY(layer.ffn_down, binder.matrix(name("ffn_down.weight"), spec.d_model, spec.d_ff));
  return layer;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::open(const std::string& path) {
  SPATE_TRY(GgufFile file, GgufFile::open(path));
  return bind(std::move(file));
}

Result<std::shared_ptr<const Model>> Model::bind(GgufFile file) {
  if (file.tensors().empty())
    return Error::unsupported(
        fmt::format("{}: has no tensors; a vocabulary alone can be tokenized with, but not run", file.path()));
  // Weights point into the file's tensors, so the file moves to its last place first.
  std::shared_ptr<Model> model(new Model(std::move(file)));
  SPATE_TRY(model->spec_, read_model_spec(model->file_));
  const ModelSpec& spec = model->spec_;
  Binder binder(model->file_);
  binder.use("rope_freqs.weight");
  SPATE_TRY(model->token_embedding_, binder.matrix("token_embd.weight", spec.vocab_size, spec.d_model));
  SPATE_TRY(model->output_norm_, binder.vector("output_norm.weight", spec.d_model));
  model->output_ = model->token_embedding_;
  if (!spec.tied_embeddings) {
    SPATE_TRY(model->output_, binder.matrix("output.weight", spec.vocab_size, spec.d_model));
  }
  for (int i = 0; i < spec.n_layers; ++i) {
    SPATE_TRY(LayerWeights layer, bind_layer(binder, spec, i));
    model->layers_.push_back(layer);
  }
  SPATE_TRY_VOID(binder.check_all_used());
  SPATE_TRY_VOID(model->file_.check_intact());
  return std::shared_ptr<const Model>(std::move(model));
}

int64_t Model::weight_bytes_per_token() const {
  const auto bytes = [](const Weight& weight) { return weight ? weight.n_rows * weight.row_bytes() : 0; };
  int64_t total = bytes(output_norm_) + bytes(output_);
  for (const LayerWeights& layer : layers_)
    for (const Weight* weight : all_weights(layer)) total += bytes(*weight);
  return total;
}

std::vector<float> vector_values(const Weight& weight) {
  std::vector<float> values(weight.n_rows * weight.n_cols);
  const QuantTraits& traits = quant_traits(weight.type());
  traits.decode(weight.tensor->data.data(), static_cast<int64_t>(values.size()) / traits.block_elems, values.data());
  return values;
}

}  // namespace spate
