// What an executor takes of a device's memory, and for what: known before anything is allocated, so that what cannot
// fit is refused with the sizes and what to change.
#pragma once

#include <string>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/device_profile.h"
#include "backend/cuda/kv_pool.h"
#include "backend/executor.h"
#include "model/model.h"

namespace spate::cuda {

struct MemoryPlan {
  ExecutorLimits limits;
  KvType kv_type = KvType::kF16;
  int64_t weight_bytes = 0;
  int64_t kv_page_bytes = 0;  // of all layers
  int64_t workspace_bytes = 0;
  int64_t attention_bytes = 0;  // of the workspace: the part of a step's block that AttentionPlanner fills
  int64_t block_bytes = 0;      // of the workspace: a step's block

  int64_t kv_bytes() const { return kv_page_bytes * limits.n_pages; }
  int64_t kv_tokens() const { return int64_t{limits.n_pages} * kPageTokens; }
  int64_t total_bytes() const { return weight_bytes + kv_bytes() + workspace_bytes; }
};

// What an executor may take of the device now: what is free, less a share that is left alone for the driver's own code,
// graphs and local variables, and for others. Error (kBackend): the device does not answer.
Result<int64_t> available_device_bytes(const DeviceProfile& profile);

// Plans for the limits; with limits.n_pages = 0, as many pages as available_bytes hold besides the rest. Error
// (kOutOfResources): it does not fit.
Result<MemoryPlan> plan_memory(const Model& model, const ExecutorLimits& limits, KvType kv_type,
                               const DeviceProfile& profile, int64_t available_bytes);

// The planner of attention for an executor's steps.
AttentionPlanner make_attention_planner(const ModelSpec& spec, const ExecutorLimits& limits, KvType kv_type,
                                        const DeviceProfile& profile);

// One line: "weights 4.90 GB, KV cache 16.00 GB (131072 tokens of 122.9 KB, f16), workspace 0.61 GB".
std::string describe(const MemoryPlan& plan);

std::string_view kv_type_name(KvType type);
Result<KvType> kv_type_from_name(std::string_view name);

}  // namespace spate::cuda
