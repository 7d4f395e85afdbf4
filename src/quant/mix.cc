#include "quant/mix.h"

#include <charconv>
#include <optional>

namespace spate {

namespace {

using enum QuantType;

constexpr Mix kMixes[] = {
    {"F32", kF32, 0},      {"F16", kF16, 1},        {"BF16", kBF16, 32},     {"Q8_0", kQ8_0, 7},
    {"Q6_K", kQ6_K, 18},   {"Q5_K_M", kQ5_K, 17},   {"Q5_K_S", kQ5_K, 16},   {"Q5_1", kQ5_1, 9},
    {"Q5_0", kQ5_0, 8},    {"Q4_K_M", kQ4_K, 15},   {"Q4_K_S", kQ4_K, 14},   {"Q4_1", kQ4_1, 3},
    {"Q4_0", kQ4_0, 2},    {"IQ4_NL", kIQ4_NL, 25}, {"IQ4_XS", kIQ4_XS, 30}, {"Q3_K_L", kQ3_K, 13},
    {"Q3_K_M", kQ3_K, 12}, {"Q3_K_S", kQ3_K, 11},   {"Q2_K", kQ2_K, 10},     {"Q2_K_S", kQ2_K, 21},
};

enum class Role { kOther, kOutput, kAttnQkv, kAttnK, kAttnV, kAttnOutput, kFfnDown };

enum class When {
  kAlways,
  kGroupOf4,       // at least 4 query heads share a KV head: its values matter more and weigh less
  kFirst2,         // layers
  kFirst4,         //
  kFirst16th,      // of the layers
  kFirst8th,       //
  kEndsAndThirds,  // the first eighth and the last, and every third layer between them
};

struct Rule {
  std::string_view mix;
  Role role;
  When when;
  QuantType type;
};

// The first row that fits decides; where none does, the mix's base type.
constexpr Rule kRules[] = {
    {"Q5_K_M", Role::kAttnV, When::kEndsAndThirds, kQ6_K}, {"Q5_K_M", Role::kFfnDown, When::kEndsAndThirds, kQ6_K},
    {"Q5_K_M", Role::kAttnQkv, When::kAlways, kQ6_K},

    {"Q4_K_M", Role::kAttnV, When::kEndsAndThirds, kQ6_K}, {"Q4_K_M", Role::kFfnDown, When::kEndsAndThirds, kQ6_K},
    {"Q4_K_M", Role::kAttnQkv, When::kAlways, kQ5_K},

    {"Q4_K_S", Role::kAttnV, When::kFirst4, kQ5_K},        {"Q4_K_S", Role::kFfnDown, When::kFirst8th, kQ5_K},

    {"IQ4_NL", Role::kAttnV, When::kGroupOf4, kQ5_K},      {"IQ4_NL", Role::kFfnDown, When::kFirst8th, kQ5_K},
    {"IQ4_XS", Role::kAttnV, When::kGroupOf4, kQ5_K},      {"IQ4_XS", Role::kFfnDown, When::kFirst8th, kQ5_K},

    {"Q3_K_L", Role::kAttnV, When::kAlways, kQ5_K},        {"Q3_K_L", Role::kFfnDown, When::kAlways, kQ5_K},
    {"Q3_K_L", Role::kAttnOutput, When::kAlways, kQ5_K},   {"Q3_K_L", Role::kAttnQkv, When::kAlways, kQ4_K},

    {"Q3_K_M", Role::kAttnV, When::kFirst2, kQ5_K},        {"Q3_K_M", Role::kAttnV, When::kAlways, kQ4_K},
    {"Q3_K_M", Role::kFfnDown, When::kFirst16th, kQ5_K},   {"Q3_K_M", Role::kFfnDown, When::kAlways, kQ4_K},
    {"Q3_K_M", Role::kAttnOutput, When::kAlways, kQ4_K},   {"Q3_K_M", Role::kAttnQkv, When::kAlways, kQ4_K},

    {"Q2_K", Role::kAttnV, When::kGroupOf4, kQ4_K},        {"Q2_K", Role::kAttnV, When::kAlways, kQ3_K},
    {"Q2_K", Role::kFfnDown, When::kAlways, kQ3_K},        {"Q2_K", Role::kAttnOutput, When::kAlways, kQ3_K},

    {"Q2_K_S", Role::kAttnV, When::kGroupOf4, kQ4_K},      {"Q2_K_S", Role::kFfnDown, When::kFirst8th, kQ4_K},
};

// In models of 8 experts the attention is a small part of the weights, and these mixes spend more on its output.
constexpr std::string_view kRaiseAttnOutputOf8Experts[] = {"Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS",
                                                           "Q3_K_M", "Q3_K_S", "Q2_K"};

struct TensorPlace {
  Role role = Role::kOther;
  int layer = 0;
};

TensorPlace place_of(std::string_view name, const MixModel& model) {
  TensorPlace place;
  if (name == "output.weight" || (model.tied_output && name == "token_embd.weight")) {
    place.role = Role::kOutput;
  } else if (name.starts_with("blk.")) {
    name.remove_prefix(4);
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), place.layer);
    if (error != std::errc()) return place;
    name.remove_prefix(static_cast<size_t>(end - name.data()));
    if (name == ".attn_qkv.weight") place.role = Role::kAttnQkv;
    if (name == ".attn_k.weight") place.role = Role::kAttnK;
    if (name == ".attn_v.weight") place.role = Role::kAttnV;
    if (name == ".attn_output.weight") place.role = Role::kAttnOutput;
    if (name.starts_with(".ffn_down")) place.role = Role::kFfnDown;  // also those of the experts
  }
  return place;
}

bool applies(When when, int layer, const MixModel& model) {
  const int n = model.n_layers;
  switch (when) {
    case When::kAlways:
      return true;
    case When::kGroupOf4:
      return model.gqa_group >= 4;
    case When::kFirst2:
      return layer < 2;
    case When::kFirst4:
      return layer < 4;
    case When::kFirst16th:
      return layer < n / 16;
    case When::kFirst8th:
      return layer < n / 8;
    case When::kEndsAndThirds:
      return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
  }
  return false;
}

bool contains(std::span<const std::string_view> names, std::string_view name) {
  for (std::string_view one : names)
    if (one == name) return true;
  return false;
}

// What the number of experts alone decides, whatever the mix says elsewhere.
std::optional<QuantType> type_for_experts(const Mix& mix, Role role) {
  if (role == Role::kAttnV || role == Role::kAttnK) return kQ8_0;
  if (role == Role::kAttnOutput) return contains(kRaiseAttnOutputOf8Experts, mix.name) ? kQ5_K : mix.base;
  return std::nullopt;
}

QuantType type_by_rules(const Mix& mix, const MixModel& model, const TensorPlace& place) {
  if (place.role == Role::kOutput) return mix.base == kQ8_0 ? kQ8_0 : kQ6_K;
  if (model.n_experts == 8)
    if (const auto type = type_for_experts(mix, place.role)) return *type;
  QuantType type = mix.base;
  for (const Rule& rule : kRules) {
    if (rule.mix != mix.name || rule.role != place.role || !applies(rule.when, place.layer, model)) continue;
    type = rule.type;
    break;
  }
  // 80 layers with shared KV heads: the models of 70 billion weights, whose attn_v is an eighth of attn_q's size.
  if (place.role == Role::kAttnV && model.n_layers == 80 && model.gqa_group > 1 && (type == kQ3_K || type == kQ4_K))
    type = kQ5_K;
  return type;
}

}  // namespace

std::span<const Mix> all_mixes() {
  return kMixes;
}

const Mix* find_mix(std::string_view name) {
  for (const Mix& mix : kMixes)
    if (equal_ignoring_case(mix.name, name)) return &mix;
  return nullptr;
}

bool is_quantised_in_mixes(std::string_view tensor_name, int n_dims) {
  return n_dims >= 2 && tensor_name.ends_with(".weight") && !tensor_name.ends_with("_norm.weight") &&
         !tensor_name.ends_with(".ffn_gate_inp.weight");
}

QuantType choose_type(const Mix& mix, const MixModel& model, std::string_view tensor_name, int64_t n_cols) {
  const int block_elems = quant_traits(mix.base).block_elems;
  if (block_elems == 1) return mix.base;  // F32, F16, BF16: one type for all
  const TensorPlace place = place_of(tensor_name, model);
  // The LM head is never worse than Q8_0 where the mix's own qblocks do not fit its rows.
  if (place.role == Role::kOutput && n_cols % block_elems != 0) return type_for_rows(kQ8_0, n_cols);
  return type_for_rows(type_by_rules(mix, model, place), n_cols);
}

QuantType type_for_rows(QuantType type, int64_t n_cols) {
  const int block_elems = quant_traits(type).block_elems;
  if (n_cols % block_elems == 0) return type;
  if (n_cols % 32 != 0 || block_elems == 32) return kF16;
  switch (type) {
    case kQ4_K:
      return kQ5_0;
    case kQ5_K:
      return kQ5_1;
    case kQ6_K:
      return kQ8_0;
    default:
      return kIQ4_NL;
  }
}

}  // namespace spate
