// Mixes: the named recipes ("Q4_K_M") by which a whole model is quantised, and the type that each of its tensors gets.
// The choices are those of the files that the ecosystem publishes, so that a name means here what it means elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "quant/quant_type.h"

namespace spate {

struct Mix {
  std::string_view name;
  QuantType base;      // of every matrix that no rule raises
  uint32_t file_type;  // the value of general.file_type
};

// Every mix, smallest weights last.
std::span<const Mix> all_mixes();

// By name, any case; nullptr if there is none.
const Mix* find_mix(std::string_view name);

// What the rules ask of a model.
struct MixModel {
  int n_layers = 0;
  int gqa_group = 1;  // query heads a KV head
  int n_experts = 0;
  bool tied_output = false;  // no output.weight: the token embedding is the LM head too
};

// Whether a tensor of a model is quantised at all: a weight of at least two dimensions that is no norm and no expert
// router. The others keep the type that they have.
bool is_quantised_in_mixes(std::string_view tensor_name, int n_dims);

// The type of a tensor that is_quantised_in_mixes(), by its name in GGUF files ("blk.3.attn_v.weight"); n_cols is the
// length of its rows. Always a type whose qblocks divide the rows.
QuantType choose_type(const Mix& mix, const MixModel& model, std::string_view tensor_name, int64_t n_cols);

// `type`, or what takes its place where its qblocks do not divide rows of n_cols: Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0
// for Q6_K, IQ4_NL for the other types of 256; F16 where not even 32 divides the rows.
QuantType type_for_rows(QuantType type, int64_t n_cols);

}  // namespace spate
