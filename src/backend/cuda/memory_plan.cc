#include "backend/cuda/memory_plan.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/cluster_room.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/sampling.h"
#include "backend/cuda/step_block.h"
#include "backend/cuda/workspace.h"

namespace spate::cuda {

namespace {

constexpr std::array<std::pair<std::string_view, KvType>, 3> kKvTypes = {
    {{"f16", KvType::kF16}, {"q8_0", KvType::kQ8_0}, {"fp8", KvType::kFp8}}};

// Of a pool that takes the memory left: 8 million tokens, so that small models on large devices leave some.
constexpr int64_t kMaxPages = 1 << 18;

constexpr double gb(int64_t n_bytes) {
  return static_cast<double>(n_bytes) * 1e-9;
}

// Everything but the weights and the pages.
void plan_workspace(const ModelSpec& spec, const DeviceProfile& profile, MemoryPlan& plan) {
  const AttentionPlanner planner = make_attention_planner(spec, plan.limits, plan.kv_type, profile);
  plan.attention_bytes = planner.work_bytes();
  plan.block_bytes = max_block_bytes(plan.limits, max_step_rows(plan.limits), plan.attention_bytes,
                                     max_listed_pages(plan.limits, spec.context_length));
  plan.workspace_bytes = workspace_bytes(spec, plan.limits, profile, planner.scratch_size()) +
                         aligned(plan.block_bytes) +
                         SlotTable::device_bytes({.max_seqs = plan.limits.max_seqs, .vocab_size = spec.vocab_size});
}

Error does_not_fit(const Model& model, const MemoryPlan& plan, const DeviceProfile& profile, int64_t available_bytes) {
  const auto advice = [&]() -> std::string {
    if (plan.weight_bytes > available_bytes) return "take a smaller model or one quantised to fewer bits";
    if (plan.weight_bytes + plan.workspace_bytes > available_bytes)
      return "ask for fewer sequences or fewer tokens a step";
    return plan.kv_type == KvType::kF16 ? "ask for a smaller context or fewer sequences, or for --kv-type q8_0"
                                        : "ask for a smaller context or fewer sequences";
  };
  return Error::out_of_resources(fmt::format("{}: {}: {:.2f} GB in all, of which {} has {:.2f} GB free; {}",
                                             model.file().path(), describe(plan), gb(plan.total_bytes()), profile.name,
                                             gb(std::max<int64_t>(available_bytes, 0)), advice()));
}

}  // namespace

Result<int64_t> available_device_bytes(const DeviceProfile& profile) {
  try {
    SPATE_CUDA(cudaSetDevice(profile.device), "using device {}", profile.device);
    const int64_t reserved = std::max(int64_t{384} << 20, profile.memory_bytes / 50);
    return std::max<int64_t>(free_device_bytes() - reserved, 0);
  } catch (const CudaError& error) {
    return Error::backend(fmt::format("{}: {}", profile.name, error.what()));
  }
}

AttentionPlanner make_attention_planner(const ModelSpec& spec, const ExecutorLimits& limits, KvType kv_type,
                                        const DeviceProfile& profile) {
  const int64_t max_context = std::min<int64_t>(int64_t{limits.n_pages} * kPageTokens, std::numeric_limits<int>::max());
  const ClusterRoom room = profile.has_clusters
                               ? cluster_room(std::min(kClusterSharedBudget, profile.shared_bytes_per_block))
                               : ClusterRoom{};
  return AttentionPlanner(
      {.n_heads = spec.n_heads, .n_kv_heads = spec.n_kv_heads, .head_dim = spec.head_dim, .kv_type = kv_type}, profile,
      limits.max_seqs, limits.max_step_tokens, static_cast<int>(max_context), room);
}

Result<MemoryPlan> plan_memory(const Model& model, const ExecutorLimits& limits, KvType kv_type,
                               const DeviceProfile& profile, int64_t available_bytes) {
  const ModelSpec& spec = model.spec();
  MemoryPlan plan{.limits = limits, .kv_type = kv_type, .weight_bytes = weight_memory_bytes(model)};
  plan.kv_page_bytes = spec.n_layers * kv_page_bytes(kv_type, spec.n_kv_heads, spec.head_dim);
  const auto pages_that_fit = [&](int64_t other_bytes) {
    return static_cast<int>(std::clamp<int64_t>((available_bytes - other_bytes) / plan.kv_page_bytes, 1, kMaxPages));
  };
  // The workspace grows with the pool, a little: it is planned for the pool that would fit without it, which is larger.
  if (limits.n_pages == 0) plan.limits.n_pages = pages_that_fit(plan.weight_bytes);
  plan_workspace(spec, profile, plan);
  if (limits.n_pages == 0) {
    plan.limits.n_pages = pages_that_fit(plan.weight_bytes + plan.workspace_bytes);
    plan_workspace(spec, profile, plan);
  }
  if (plan.total_bytes() > available_bytes) return does_not_fit(model, plan, profile, available_bytes);
  return plan;
}

std::string describe(const MemoryPlan& plan) {
  return fmt::format("weights {:.2f} GB, KV cache {:.2f} GB ({} tokens of {:.1f} KB, {}), workspace {:.2f} GB",
                     gb(plan.weight_bytes), gb(plan.kv_bytes()), plan.kv_tokens(),
                     static_cast<double>(plan.kv_page_bytes) / kPageTokens * 1e-3, kv_type_name(plan.kv_type),
                     gb(plan.workspace_bytes));
}

std::string_view kv_type_name(KvType type) {
  return std::ranges::find(kKvTypes, type, &std::pair<std::string_view, KvType>::second)->first;
}

Result<KvType> kv_type_from_name(std::string_view name) {
  const auto* found = std::ranges::find(kKvTypes, name, &std::pair<std::string_view, KvType>::first);
  if (found == kKvTypes.end())
    return Error::usage(fmt::format("'{}' is no type of KV cache; there are f16, q8_0 and fp8", name));
  return found->second;
}

}  // namespace spate::cuda
