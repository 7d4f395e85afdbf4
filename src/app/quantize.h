// Quantising a model file: which tensor gets which type, and the conversion itself. The command is in
// quantize_command.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "gguf/gguf_file.h"
#include "quant/mix.h"
#include "quant/quant_type.h"

namespace spate::app {

// Matrices whose name fits `pattern` (* any text, ? any character) get this type.
struct TypeOverride {
  std::string pattern;
  QuantType type;
};

struct QuantizeOptions {
  const Mix* mix = nullptr;
  std::vector<TypeOverride> overrides = {};            // the first that fits decides, before all else
  std::optional<QuantType> token_embedding_type = {};  // of token_embd.weight
  std::optional<QuantType> output_type = {};           // of output.weight; in a model without one, of token_embd.weight
  bool requantize = false;                             // take matrices that are quantised already
};

// What becomes of one tensor.
struct TensorPlan {
  const GgufTensor* tensor = nullptr;
  QuantType type = QuantType::kF32;

  bool is_copied() const { return type == tensor->type; }  // bit for bit
  uint64_t n_bytes() const { return static_cast<uint64_t>(quant_bytes(type, tensor->n_elems())); }
};

// A plan for every tensor of the file, in the file's order. Matrices get the types of the mix, or what the options say;
// vectors, norms and expert routers keep theirs. The plan points into the file. Error kBadFile: metadata that the mix
// depends on is missing; kUsage: a matrix is quantised already and would be again, or nothing would be
// converted, or an option fits no tensor or not its rows; kUnsupported: a matrix of a type that cannot be decoded.
Result<std::vector<TensorPlan>> plan_quantization(const GgufFile& file, const QuantizeOptions& options);

// How far the new weights of a tensor are from the old ones.
struct QuantizeError {
  double sum_squares = 0;         // of the old weights
  double sum_squared_errors = 0;  // of new less old

  void add(const QuantizeError& other);
  double relative_rms() const;  // root mean square of the errors over that of the weights; 0 where both are 0
};

// Called in between, with the share of the weights that is done and the tensor at hand; false stops the work.
using QuantizeProgress = std::function<bool(double fraction, std::string_view tensor)>;

// Writes the file at `path`, with the metadata of `file`, general.file_type of the mix and
// general.quantization_version; a few MB of weights are in memory at a time. Returns an error for each planned tensor,
// zeros for those that are copied. Error kBadFile: a weight is NaN or infinite, or too large for a float type of fewer
// bits (tensor and element are named); kIo; kInterrupted: stopped by `progress`. After an Error, what was at `path` is
// still there and nothing else is.
Result<std::vector<QuantizeError>> write_quantized(const GgufFile& file, const std::vector<TensorPlan>& plan,
                                                   const Mix& mix, const std::string& path, ThreadPool& threads,
                                                   const QuantizeProgress& progress);

}  // namespace spate::app
