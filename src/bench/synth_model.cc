#include "bench/synth_model.h"

#include <algorithm>
#include <fmt/format.h>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "bench/synth_weights.h"
#include "gguf/gguf_writer.h"
#include "quant/mix.h"
#include "text/byte_alphabet.h"

namespace spate {

namespace {

constexpr SynthShape kShapes[] = {
#define SPATE_SYNTH_SHAPE(name, architecture, n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, \
                          tied, rope_base, context)                                                               \
  SynthShape{name,     architecture, n_layers,   d_model, n_heads,   n_kv_heads,                                  \
             head_dim, d_ff,         vocab_size, tied,    rope_base, context},
#include "bench/synth_shapes.def"
};

constexpr float kWeightDeviation = 0.02f;  // about that of trained weights: activations keep their size
constexpr float kBiasDeviation = 0.1f;

Result<SynthShape> shape_of(const SynthOptions& options) {
  std::string known;
  for (SynthShape shape : kShapes) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", shape.name);
    if (!equal_ignoring_case(shape.name, options.shape)) continue;
    if (options.n_layers > 0) shape.n_layers = options.n_layers;
    return shape;
  }
  return Error::usage(fmt::format("no shape is named '{}'; there are {}", options.shape, known));
}

// Which type each tensor takes: as a mix has it or, under the name of a type that no mix has ("Q4_K"), that type
// everywhere.
struct TypeChoice {
  const Mix* mix = nullptr;
  QuantType type = QuantType::kF32;
  uint32_t file_type = 0;

  QuantType of(const SynthShape& shape, std::string_view tensor, int64_t n_cols) const {
    if (mix == nullptr) return type_for_rows(type, n_cols);
    return choose_type(*mix,
                       {.n_layers = shape.n_layers,
                        .gqa_group = shape.n_heads / shape.n_kv_heads,
                        .tied_output = shape.tied_embeddings},
                       tensor, n_cols);
  }
};

Result<TypeChoice> find_type(std::string_view name) {
  if (const Mix* mix = find_mix(name)) return TypeChoice{.mix = mix, .type = mix->base, .file_type = mix->file_type};
  std::string known;
  for (const Mix& mix : all_mixes()) known += fmt::format("{}, ", mix.name);
  const std::optional<QuantType> type = quant_type_from_name(name);
  if (!type)
    return Error::usage(
        fmt::format("no type or mix of types is named '{}'; there are {}Q3_K, Q4_K, Q5_K", name, known));
  TypeChoice choice{.type = *type};
  for (const Mix& mix : all_mixes())
    if (mix.base == *type) choice.file_type = mix.file_type;
  return choice;
}

// What the weights of a tensor are like: random of this standard deviation about 0 or, at deviation 0, all 1.
struct PlannedTensor {
  SynthTensor tensor;
  float deviation;
};

class Layout {
 public:
  Layout(const SynthShape& shape, const TypeChoice& types) : shape_(shape), types_(types) {}

  std::vector<PlannedTensor> plan() {
    const int d_model = shape_.d_model, q_dim = shape_.n_heads * shape_.head_dim;
    const int kv_dim = shape_.n_kv_heads * shape_.head_dim;
    matrix("token_embd.weight", d_model, shape_.vocab_size);
    norm("output_norm.weight", d_model);
    if (!shape_.tied_embeddings) matrix("output.weight", d_model, shape_.vocab_size);
    for (int layer = 0; layer < shape_.n_layers; ++layer) {
      const auto name = [&](std::string_view suffix) { return fmt::format("blk.{}.{}", layer, suffix); };
      norm(name("attn_norm.weight"), d_model);
      matrix(name("attn_q.weight"), d_model, q_dim);
      matrix(name("attn_k.weight"), d_model, kv_dim);
      matrix(name("attn_v.weight"), d_model, kv_dim);
      if (shape_.architecture == "qwen2") {
        bias(name("attn_q.bias"), q_dim);
        bias(name("attn_k.bias"), kv_dim);
        bias(name("attn_v.bias"), kv_dim);
      }
      if (shape_.architecture == "qwen3") {
        norm(name("attn_q_norm.weight"), shape_.head_dim);
        norm(name("attn_k_norm.weight"), shape_.head_dim);
      }
      matrix(name("attn_output.weight"), q_dim, d_model);
      norm(name("ffn_norm.weight"), d_model);
      matrix(name("ffn_gate.weight"), d_model, shape_.d_ff);
      matrix(name("ffn_up.weight"), d_model, shape_.d_ff);
      matrix(name("ffn_down.weight"), shape_.d_ff, d_model);
    }
    return std::move(tensors_);
  }

 private:
  void norm(const std::string& name, int n_elems) { add(name, QuantType::kF32, {n_elems}, 0); }
  void bias(const std::string& name, int n_elems) { add(name, QuantType::kF32, {n_elems}, kBiasDeviation); }
  void matrix(const std::string& name, int n_cols, int n_rows) {
    add(name, types_.of(shape_, name, n_cols), {n_cols, n_rows}, kWeightDeviation);
  }
  void add(const std::string& name, QuantType type, std::vector<int64_t> dims, float deviation) {
    tensors_.push_back({.tensor = {.name = name, .type = type, .dims = std::move(dims)}, .deviation = deviation});
  }

  const SynthShape& shape_;
  const TypeChoice& types_;
  std::vector<PlannedTensor> tensors_;
};

uint64_t bytes_of(const SynthTensor& tensor) {
  int64_t n_elems = 1;
  for (const int64_t dim : tensor.dims) n_elems *= dim;
  return static_cast<uint64_t>(quant_bytes(tensor.type, n_elems));
}

class FileBuilder {
 public:
  FileBuilder(const SynthShape& shape, const TypeChoice& types, uint64_t seed,
              const std::function<bool(double)>& progress)
      : shape_(shape), types_(types), seed_(seed), progress_(progress) {}
  FileBuilder(const FileBuilder&) = delete;  // the writer's sources keep `this`
  FileBuilder& operator=(const FileBuilder&) = delete;

  Result<SynthReport> write(const std::string& path) {
    hyper_parameters();
    vocabulary();
    for (const PlannedTensor& planned : Layout(shape_, types_).plan()) add(planned);
    SPATE_TRY_VOID(writer_.write(path));
    return SynthReport{.n_tensors = n_tensors_, .tensor_bytes = total_bytes_};
  }

 private:
  void hyper_parameters() {
    const auto set = [&](std::string_view key, auto value) {
      writer_.set(fmt::format("{}.{}", shape_.architecture, key), value);
    };
    const auto u32 = [](int value) { return static_cast<uint32_t>(value); };
    writer_.set("general.architecture", shape_.architecture);
    writer_.set("general.name", fmt::format("synth-{}", shape_.name));
    writer_.set("general.file_type", types_.file_type);
    writer_.set("general.quantization_version", uint32_t{2});
    set("block_count", u32(shape_.n_layers));
    set("context_length", u32(shape_.context_length));
    set("embedding_length", u32(shape_.d_model));
    set("feed_forward_length", u32(shape_.d_ff));
    set("attention.head_count", u32(shape_.n_heads));
    set("attention.head_count_kv", u32(shape_.n_kv_heads));
    set("attention.key_length", u32(shape_.head_dim));
    set("attention.value_length", u32(shape_.head_dim));
    set("rope.freq_base", shape_.rope_base);
    set("attention.layer_norm_rms_epsilon", 1e-6f);
    set("vocab_size", u32(shape_.vocab_size));
    if (shape_.architecture == "llama") set("rope.dimension_count", u32(shape_.head_dim));
  }

  void vocabulary() {
    std::vector<std::string> tokens;
    tokens.reserve(static_cast<size_t>(shape_.vocab_size));
    for (int byte = 0; byte < 256; ++byte)
      tokens.push_back(printable_of_bytes(std::string(1, static_cast<char>(byte))));
    const std::string space = printable_of_bytes(" ");
    for (int filler = 0; filler < shape_.vocab_size - 257; ++filler)
      tokens.push_back(fmt::format("{}w{}", space, filler));
    tokens.emplace_back("<|endoftext|>");
    constexpr int32_t kNormal = 1, kControl = 3;
    std::vector<int32_t> kinds(tokens.size(), kNormal);
    kinds.back() = kControl;
    const auto end = static_cast<uint32_t>(shape_.vocab_size - 1);
    writer_.set("tokenizer.ggml.model", "gpt2");
    writer_.set("tokenizer.ggml.pre", shape_.architecture == "llama" ? "llama-bpe" : "qwen2");
    writer_.set("tokenizer.ggml.tokens", tokens);
    writer_.set("tokenizer.ggml.token_type", kinds);
    writer_.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
    writer_.set("tokenizer.ggml.eos_token_id", end);
    writer_.set("tokenizer.ggml.bos_token_id", end);
    writer_.set("tokenizer.ggml.add_bos_token", false);
  }

  void add(const PlannedTensor& planned) {
    const SynthTensor& tensor = planned.tensor;
    const uint64_t n_bytes = bytes_of(tensor);
    total_bytes_ += n_bytes;
    const uint64_t tensor_seed = SplitMix(seed_ + static_cast<uint64_t>(n_tensors_++) * 0x10001).next();
    if (planned.deviation == 0) {
      writer_.add_tensor(tensor.name, {tensor.dims[0]}, std::vector<float>(static_cast<size_t>(tensor.dims[0]), 1.0f));
      return;
    }
    const auto source = [this, type = tensor.type, deviation = planned.deviation, n_bytes,
                         tensor_seed](GgufTensorSink& sink) {
      SplitMix random(tensor_seed);
      return pool_of(type, deviation).stream(n_bytes, random, [&](std::span<const std::byte> piece) {
        return put(sink, piece);
      });
    };
    writer_.add_tensor(tensor.name, tensor.type, tensor.dims, source);
  }

  Result<void> put(GgufTensorSink& sink, std::span<const std::byte> piece) {
    SPATE_TRY_VOID(sink.write(piece));
    written_bytes_ += piece.size();
    if (progress_ && !progress_(static_cast<double>(written_bytes_) / static_cast<double>(total_bytes_)))
      return Error::interrupted("stopped before the model was complete; nothing was left behind");
    return {};
  }

  const QblockPool& pool_of(QuantType type, float deviation) {
    for (const QblockPool& pool : pools_)
      if (pool.type() == type && pool.deviation() == deviation) return pool;
    return pools_.emplace_back(type, deviation, seed_ + static_cast<uint64_t>(type));
  }

  const SynthShape& shape_;
  const TypeChoice& types_;
  uint64_t seed_;
  const std::function<bool(double)>& progress_;
  GgufWriter writer_;
  std::list<QblockPool> pools_;  // made when the first tensor wants them
  int n_tensors_ = 0;
  uint64_t total_bytes_ = 0, written_bytes_ = 0;
};

}  // namespace

std::span<const SynthShape> synth_shapes() {
  return kShapes;
}

Result<std::vector<SynthTensor>> synth_tensors(const SynthOptions& options) {
  SPATE_TRY(const SynthShape shape, shape_of(options));
  SPATE_TRY(const TypeChoice types, find_type(options.type));
  std::vector<SynthTensor> tensors;
  for (PlannedTensor& planned : Layout(shape, types).plan()) tensors.push_back(std::move(planned.tensor));
  return tensors;
}

Result<SynthReport> write_synth_model(const SynthOptions& options, const std::string& path,
                                      const std::function<bool(double fraction)>& progress) {
  SPATE_TRY(const SynthShape shape, shape_of(options));
  SPATE_TRY(const TypeChoice types, find_type(options.type));
  return FileBuilder(shape, types, options.seed, progress).write(path);
}

}  // namespace spate
