#include "app/quantize.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <span>
#include <utility>

#include "base/utf8.h"
#include "gguf/gguf_writer.h"

namespace spate::app {

namespace {

constexpr uint32_t kQuantizationVersion = 2;  // of the qblock layouts, as the ecosystem counts them

bool is_float(QuantType type) {
  return quant_traits(type).block_elems == 1;
}

// The largest integer of a key that holds one, or an array with one for each layer; nullopt where it is neither.
std::optional<int64_t> largest_integer(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<uint64_t>(value))
    return static_cast<int64_t>(std::min<uint64_t>(*number, 1 << 20));
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || !array->is_integer() || array->size == 0) return std::nullopt;
  int64_t largest = 0;
  for (uint64_t i = 0; i < array->size; ++i) largest = std::max(largest, array->integer(i));
  return largest;
}

// What the mixes ask of the model, by its metadata. Any architecture will do, also one that spate does not run.
Result<MixModel> mix_model(const GgufFile& file) {
  SPATE_TRY(const auto architecture, file.string("general.architecture"));
  if (!architecture)
    return Error::bad_file(file.path(), "key 'general.architecture' is missing; not a model to quantise");
  const std::string prefix(*architecture);
  const auto n_layers = largest_integer(file, prefix + ".block_count");
  if (!n_layers || *n_layers < 0 || *n_layers > (1 << 20))
    return Error::bad_file(file.path(), fmt::format("key '{}.block_count' is missing or out of range", prefix));
  const int64_t n_heads = largest_integer(file, prefix + ".attention.head_count").value_or(1);
  const int64_t n_kv_heads = largest_integer(file, prefix + ".attention.head_count_kv").value_or(n_heads);
  return MixModel{.n_layers = static_cast<int>(*n_layers),
                  .gqa_group = n_kv_heads > 0 ? static_cast<int>(std::min<int64_t>(n_heads / n_kv_heads, 1 << 20)) : 1,
                  .n_experts = static_cast<int>(
                      std::clamp<int64_t>(largest_integer(file, prefix + ".expert_count").value_or(0), 0, 1 << 20)),
                  .tied_output = file.find_tensor("output.weight") == nullptr};
}

// * is any text, ? any one byte.
bool fits(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // let the last * take one more
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

// The type that the options name for a matrix, if they do; marks the override that decided.
std::optional<QuantType> type_by_options(const QuantizeOptions& options, const MixModel& model, std::string_view name,
                                         std::vector<bool>& override_used) {
  for (size_t i = 0; i < options.overrides.size(); ++i) {
    if (!fits(options.overrides[i].pattern, name)) continue;
    override_used[i] = true;
    return options.overrides[i].type;
  }
  if (name == "token_embd.weight" && options.token_embedding_type) return options.token_embedding_type;
  if (name == (model.tied_output ? "token_embd.weight" : "output.weight")) return options.output_type;
  return std::nullopt;
}

Result<QuantType> type_for(const GgufFile& file, const GgufTensor& tensor, const QuantizeOptions& options,
                           const MixModel& model, std::vector<bool>& override_used) {
  if (quant_traits(tensor.type).decode == nullptr)
    return Error::unsupported(fmt::format("{}: tensor {} is of type {}, which cannot be decoded", file.path(),
                                          quote(tensor.name), quant_name(tensor.type)));
  const int64_t n_cols = tensor.dims[0];
  if (const auto type = type_by_options(options, model, tensor.name, override_used)) {
    if (n_cols % quant_traits(*type).block_elems == 0) return *type;
    return Error::usage(
        fmt::format("tensor {}: rows of {} weights do not divide into blocks of {}, which {} needs; {} would fit",
                    quote(tensor.name), n_cols, quant_traits(*type).block_elems, quant_name(*type),
                    quant_name(type_for_rows(*type, n_cols))));
  }
  return choose_type(*options.mix, model, tensor.name, n_cols);
}

// A model that has the types already would be copied, over the original where the names were given the wrong way round.
Result<void> check_not_quantised_before(const GgufFile& file, const std::vector<TensorPlan>& plan) {
  const TensorPlan* quantised = nullptr;
  for (const TensorPlan& one : plan) {
    if (!one.is_copied()) return {};
    if (is_quantised_in_mixes(one.tensor->name, one.tensor->n_dims) && !is_float(one.type)) quantised = &one;
  }
  if (quantised == nullptr) return {};
  return Error::usage(
      fmt::format("{}: nothing to convert, tensor {} is {} already; name the float file first and the new one second, "
                  "or say --requantize for a copy",
                  file.path(), quote(quantised->tensor->name), quant_name(quantised->type)));
}

}  // namespace

Result<std::vector<TensorPlan>> plan_quantization(const GgufFile& file, const QuantizeOptions& options) {
  SPATE_TRY(const MixModel model, mix_model(file));
  std::vector<bool> override_used(options.overrides.size());
  std::vector<TensorPlan> plan;
  plan.reserve(file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    if (!is_quantised_in_mixes(tensor.name, tensor.n_dims)) {
      plan.push_back({.tensor = &tensor, .type = tensor.type});
      continue;
    }
    SPATE_TRY(const QuantType type, type_for(file, tensor, options, model, override_used));
    plan.push_back({.tensor = &tensor, .type = type});
    if (!options.requantize && !plan.back().is_copied() && !is_float(tensor.type))
      return Error::usage(
          fmt::format("{}: tensor {} is {} already; quantising twice adds up the errors: start from the "
                      "model's float file, or say --requantize",
                      file.path(), quote(tensor.name), quant_name(tensor.type)));
  }
  if (!options.requantize) SPATE_TRY_VOID(check_not_quantised_before(file, plan));
  for (size_t i = 0; i < override_used.size(); ++i)
    if (!override_used[i])
      return Error::usage(fmt::format("'{}' fits no matrix of the model, or only such as earlier patterns decide",
                                      options.overrides[i].pattern));
  return plan;
}

void QuantizeError::add(const QuantizeError& other) {
  sum_squares += other.sum_squares;
  sum_squared_errors += other.sum_squared_errors;
}

double QuantizeError::relative_rms() const {
  return sum_squared_errors == 0 ? 0 : std::sqrt(sum_squared_errors / sum_squares);
}

namespace {

// Elements that a thread converts at a time: whole qblocks of every type, and float32 copies that stay in its cache.
constexpr int64_t kChunkElems = 16384;
constexpr int64_t kChunksPerThread = 8;  // in a slice: enough to share them out evenly

// Converts tensors slice by slice.
class Converter {
 public:
  Converter(const GgufFile& file, ThreadPool& threads, const QuantizeProgress& progress, int64_t n_elems_total)
      : file_(file), threads_(threads), progress_(progress), n_elems_total_(n_elems_total) {}

  Result<void> copy(const TensorPlan& plan, GgufTensorSink& sink);
  Result<QuantizeError> convert(const TensorPlan& plan, GgufTensorSink& sink);

 private:
  struct ChunkResult {
    QuantizeError error;
    int64_t bad_elem = -1;  // of the tensor: not finite before, or not after
  };

  ChunkResult convert_chunk(const TensorPlan& plan, int64_t begin, int64_t end, std::byte* out) const;
  Result<void> finish_slice(const TensorPlan& plan, int64_t begin, int64_t end);
  Error bad_weight(const TensorPlan& plan, int64_t elem) const;

  const GgufFile& file_;
  ThreadPool& threads_;
  const QuantizeProgress& progress_;
  int64_t n_elems_total_;
  int64_t n_elems_done_ = 0;
};

int64_t first_not_finite(std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) return static_cast<int64_t>(i);
  return -1;
}

Converter::ChunkResult Converter::convert_chunk(const TensorPlan& plan, int64_t begin, int64_t end,
                                                std::byte* out) const {
  const QuantTraits& from = quant_traits(plan.tensor->type);
  const QuantTraits& to = quant_traits(plan.type);
  const int64_t n = end - begin;
  std::vector<float> before(static_cast<size_t>(n)), after(before.size());
  from.decode(plan.tensor->data.data() + quant_bytes(from.type, begin), n / from.block_elems, before.data());
  ChunkResult result;
  if (const int64_t bad = first_not_finite(before); bad >= 0) {
    result.bad_elem = begin + bad;
    return result;
  }
  to.encode(before.data(), n / to.block_elems, out);
  to.decode(out, n / to.block_elems, after.data());
  if (const int64_t bad = first_not_finite(after); bad >= 0) result.bad_elem = begin + bad;
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = static_cast<double>(after[i]) - before[i];
    result.error.sum_squares += static_cast<double>(before[i]) * before[i];
    result.error.sum_squared_errors += difference * difference;
  }
  return result;
}

Error Converter::bad_weight(const TensorPlan& plan, int64_t elem) const {
  const GgufTensor& tensor = *plan.tensor;
  const QuantTraits& from = quant_traits(tensor.type);
  const int64_t block = elem / from.block_elems;
  std::vector<float> values(static_cast<size_t>(from.block_elems));
  from.decode(tensor.data.data() + block * from.block_bytes, 1, values.data());
  const float value = values[static_cast<size_t>(elem % from.block_elems)];
  return Error::bad_file(
      file_.file(tensor.file_index).path(),
      fmt::format("tensor {}: weight {} of row {} is {}{}", quote(tensor.name), elem % tensor.dims[0],
                  elem / tensor.dims[0], value,
                  std::isfinite(value) ? fmt::format(", more than {} can hold", quant_name(plan.type))
                                       : "; the file is damaged or the model was not trained soundly"));
}

// Pages that have been read go, so that what is resident does not grow with the model.
Result<void> Converter::finish_slice(const TensorPlan& plan, int64_t begin, int64_t end) {
  const GgufTensor& tensor = *plan.tensor;
  const auto begin_bytes = static_cast<uint64_t>(quant_bytes(tensor.type, begin));
  file_.file(tensor.file_index)
      .release(tensor.offset + begin_bytes, static_cast<uint64_t>(quant_bytes(tensor.type, end)) - begin_bytes);
  n_elems_done_ += end - begin;
  const double fraction = static_cast<double>(n_elems_done_) / static_cast<double>(n_elems_total_);
  if (progress_ && !progress_(fraction, tensor.name)) return Error::interrupted("stopped; nothing was written");
  return {};
}

Result<void> Converter::copy(const TensorPlan& plan, GgufTensorSink& sink) {
  const QuantTraits& traits = quant_traits(plan.type);
  const int64_t n_elems = plan.tensor->n_elems();
  std::vector<float> values;
  for (int64_t begin = 0; begin < n_elems; begin += kChunkElems) {
    const int64_t end = std::min(n_elems, begin + kChunkElems);
    const auto first = static_cast<size_t>(quant_bytes(plan.type, begin));
    const auto bytes = plan.tensor->data.subspan(first, static_cast<size_t>(quant_bytes(plan.type, end)) - first);
    if (traits.decode != nullptr) {
      values.resize(static_cast<size_t>(end - begin));
      traits.decode(bytes.data(), (end - begin) / traits.block_elems, values.data());
      if (const int64_t bad = first_not_finite(values); bad >= 0) return bad_weight(plan, begin + bad);
    }
    SPATE_TRY_VOID(sink.write(bytes));
    SPATE_TRY_VOID(finish_slice(plan, begin, end));
  }
  return {};
}

Result<QuantizeError> Converter::convert(const TensorPlan& plan, GgufTensorSink& sink) {
  const int64_t n_elems = plan.tensor->n_elems(), slice_elems = kChunkElems * kChunksPerThread * threads_.size();
  QuantizeError error;
  std::vector<std::byte> out;
  std::vector<ChunkResult> results;
  for (int64_t begin = 0; begin < n_elems; begin += slice_elems) {
    const int64_t n = std::min(n_elems - begin, slice_elems);
    out.resize(static_cast<size_t>(quant_bytes(plan.type, n)));
    results.assign(static_cast<size_t>((n + kChunkElems - 1) / kChunkElems), {});
    threads_.parallel_for(n, kChunkElems, [&](int, int64_t chunk_begin, int64_t chunk_end) {
      results[static_cast<size_t>(chunk_begin / kChunkElems)] =
          convert_chunk(plan, begin + chunk_begin, begin + chunk_end, out.data() + quant_bytes(plan.type, chunk_begin));
    });
    for (const ChunkResult& result : results) {
      if (result.bad_elem >= 0) return bad_weight(plan, result.bad_elem);
      error.add(result.error);
    }
    SPATE_TRY_VOID(sink.write(out));
    SPATE_TRY_VOID(finish_slice(plan, begin, begin + n));
  }
  return error;
}

}  // namespace

Result<std::vector<QuantizeError>> write_quantized(const GgufFile& file, const std::vector<TensorPlan>& plan,
                                                   const Mix& mix, const std::string& path, ThreadPool& threads,
                                                   const QuantizeProgress& progress) {
  int64_t n_elems = 0;
  for (const TensorPlan& one : plan) n_elems += one.tensor->n_elems();
  Converter converter(file, threads, progress, n_elems);
  std::vector<QuantizeError> errors(plan.size());

  GgufWriter writer;
  writer.copy_metadata(file);
  writer.remove("general.alignment");  // of the input's data section; the output's is the default one
  writer.set("general.quantization_version", kQuantizationVersion);
  writer.set("general.file_type", mix.file_type);
  for (size_t i = 0; i < plan.size(); ++i) {
    const GgufTensor& tensor = *plan[i].tensor;
    writer.add_tensor(tensor.name, plan[i].type, std::span(tensor.dims.data(), static_cast<size_t>(tensor.n_dims)),
                      [&, i](GgufTensorSink& sink) -> Result<void> {
                        if (plan[i].is_copied()) {
                          SPATE_TRY_VOID(converter.copy(plan[i], sink));
                        } else {
                          SPATE_TRY(errors[i], converter.convert(plan[i], sink));
                        }
                        return file.check_intact();
                      });
  }
  SPATE_TRY_VOID(writer.write(path));
  return errors;
}

}  // namespace spate::app
