// Small models of random weights, written as GGUF files: every architecture, with whatever types and shapes a test asks
// for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gguf/gguf_writer.h"
#include "quant/quant_type.h"

namespace spate::testing {

struct RandomModel {
  std::string architecture = "llama";  // llama | qwen2 | qwen3
  int n_layers = 2;
  int d_model = 256;
  int d_ff = 512;
  int n_heads = 4;
  int n_kv_heads = 2;
  int head_dim = 64;
  int rotary_dim = 0;  // 0: head_dim
  int vocab_size = 320;
  int context_length = 2048;
  bool tied = false;
  bool rope_divisors = false;  // the tensor rope_freqs.weight
  // Of the matrices, taken in turn; a row that its type's qblocks do not divide gets Q8_0, or F16.
  std::vector<QuantType> types = {QuantType::kF32};
  uint32_t seed = 1;
};

// All metadata and tensors of the model; tests change or remove some before writing it.
GgufWriter random_model(const RandomModel& model);

}  // namespace spate::testing
