// Model files of a named shape with random weights, to measure speed with: what a model computes does not matter to how
// fast it computes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "quant/quant_type.h"

namespace spate {

struct SynthShape {
  std::string_view name;
  std::string_view architecture;
  int n_layers;
  int d_model;
  int n_heads;
  int n_kv_heads;
  int head_dim;
  int d_ff;
  int vocab_size;
  bool tied_embeddings;
  float rope_base;
  int context_length;
};

std::span<const SynthShape> synth_shapes();

struct SynthOptions {
  std::string shape;  // a name of synth_shapes(), any case
  std::string type;   // a tensor type or a mix of types ("q4_k_m"), any case
  uint64_t seed = 1;  // the same options give the same bytes
  int n_layers = 0;   // 0: the shape's
};

struct SynthTensor {
  std::string name;
  QuantType type;
  std::vector<int64_t> dims;  // as in the file: the row's length first
};

struct SynthReport {
  int n_tensors = 0;
  uint64_t tensor_bytes = 0;
};

// The tensors that write_synth_model() writes, in order. Error kUsage: an unknown shape or type.
Result<std::vector<SynthTensor>> synth_tensors(const SynthOptions& options);

// Writes the file, which appears only once it is complete. `progress` gets the share written and may return false to
// stop. The vocabulary is the 256 bytes, fillers, and one end token, so that any text can be tokenised. Error kUsage:
// an unknown shape or type; kIo; kInterrupted.
Result<SynthReport> write_synth_model(const SynthOptions& options, const std::string& path,
                                      const std::function<bool(double fraction)>& progress);

}  // namespace spate
