// What the device keeps for each slot between steps: sampling parameters, logit bias, and how often each token stands
// in the sequence, for the penalties. The host's SlotState (backend/sampler.h) on the device, for all slots together.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "backend/cuda/activations.h"
#include "backend/cuda/device_memory.h"
#include "backend/executor.h"

namespace spate::cuda {

// Logits of a row are read in runs of this many, 16 bytes a lane of a warp; rows of logits and of counts are padded to
// whole runs.
inline constexpr int kRunLogits = 128;

// Floats from one row of logits to the next. What lies past the vocabulary is never looked at.
SPATE_HD constexpr int64_t logits_stride(int vocab_size) {
  return (static_cast<int64_t>(vocab_size) + kRunLogits - 1) / kRunLogits * kRunLogits;
}

inline constexpr uint32_t kTokenInContext = 1u << 31;  // of a count; the lower bits: times generated
inline constexpr uint32_t kTimesGenerated = kTokenInContext - 1;

// One slot's parameters as kernels read them.
struct alignas(16) SlotRecord {
  float repetition_penalty, presence_penalty, frequency_penalty;
  float temperature;
  float typical_p, top_p, min_p;
  int32_t top_k;  // 0: keeps all
  uint64_t seed;
  int32_t n_bias;         // entries of the slot's bias list
  int32_t has_penalties;  // 0 or 1; where 0, the slot's counts are not kept and hold anything
};
static_assert(sizeof(SlotRecord) == 48);

// Device memory of all slots.
struct DeviceSlots {
  SlotRecord* records;  // [max_seqs]
  LogitBias* bias;      // [max_seqs, kMaxLogitBias] by ascending token; equal tokens in the order they were given
  uint32_t* counts;     // [max_seqs, logits_stride(vocab_size)]
};

// How one token of a step changes its slot's counts; padding and tokens of slots without penalties: slot -1.
struct TokenCount {
  int32_t slot = -1;
  int16_t slice = 0;      // counted before this slice of rows is sampled (sampling.h)
  int16_t generated = 0;  // 1: it stands behind the prompt
};
static_assert(sizeof(TokenCount) == 8);

// Owns the slots' device memory's contents, not the memory. Its uploads are staged in page-locked memory that is reused
// in turn. Used by one thread.
class SlotTable {
 public:
  struct Shape {
    int max_seqs = 0;
    int vocab_size = 0;
  };

  // What the constructor takes from an arena, worst case: a count of 4 bytes for every token of the vocabulary and
  // slot (39 MB for 64 slots of 152k), 8 KB of bias a slot, and the staging.
  static int64_t device_bytes(const Shape& shape);

  // Takes its memory from `device` and page-locks 1 MB; throws CudaError.
  SlotTable(const Shape& shape, DeviceArena& device);
  ~SlotTable();
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

  // Enqueues a step's slot operations on `stream`: copies and at most a few small launches, none where `ops` is empty.
  // To be called before the step's other work, outside of graphs. Of several operations on a slot the last counts.
  // Waits for the device only where the histories of penalised slots outgrow the staging (a million tokens in flight).
  void apply(std::span<const SlotOp> ops, cudaStream_t stream);

  const DeviceSlots& device() const { return device_; }

  // Whether a drawn row of the slot takes the arg-max of the model's own logits.
  bool is_plain_greedy(int slot) const;
  // Whether the slot's tokens are counted.
  bool has_penalties(int slot) const { return host_[slot].has_penalties; }
  int n_prompt_tokens(int slot) const { return host_[slot].n_prompt_tokens; }
  int vocab_size() const { return shape_.vocab_size; }

 private:
  struct HostSlot {  // what planning a step needs to know
    bool has_penalties = false;
    bool has_bias = false;
    bool is_greedy = true;
    int32_t n_prompt_tokens = 0;
  };
  struct Round;

  void stage(const SlotOp& op, Round& round, cudaStream_t stream);
  void begin_round(Round& round);
  void send(Round& round, cudaStream_t stream);

  Shape shape_;
  DeviceSlots device_{};
  std::vector<HostSlot> host_;           // [max_seqs]
  std::vector<int> order_;               // scratch for sorting a bias list
  PinnedMemory staging_;                 // [kStagingBlocks][kStagingBytes]
  std::byte* device_staging_ = nullptr;  // [kStagingBytes]: the stream orders its uses
  std::vector<cudaEvent_t> sent_;        // [kStagingBlocks] the block was read
  int next_block_ = 0;
};

// Counts the tokens of a step that are due before slice `slice`, and at slice 0 also finds out every counted token's
// id.
struct CountArgs {
  const int32_t* tokens;           // [T] as DeviceBatch
  const int32_t* from_row;         // [T]
  const int32_t* previous_tokens;  // [max_rows] what the step before drew; read at slice 0 alone
  const TokenCount* counts;        // [T] plan_rows() fills it
  int32_t* resolved;               // [T] scratch: the ids, for the later slices of the step
  int vocab_size;
  DeviceSlots slots;
};
void count_tokens(const CountArgs& args, int n_tokens, int slice, bool dependent, cudaStream_t stream);

}  // namespace spate::cuda
