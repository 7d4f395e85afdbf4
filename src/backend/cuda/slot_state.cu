#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/slot_state.h"
#include "base/check.h"

namespace spate::cuda {
namespace {

constexpr int kStagingBlocks = 4;  // steps in flight, and as many again, so that a step seldom finds its block in use
constexpr int64_t kStagingBytes = 256 << 10;
constexpr int kRoundOps = 64;
constexpr int kResetCtas = 8;  // clear one slot's counts: 0.6 MB for a vocabulary of 152k
constexpr int kHistoryCtas = 8;
constexpr int kThreads = 256;

// One operation of a round as it is uploaded; offsets are into the round's data.
struct alignas(16) StagedOp {
  SlotRecord record;
  int32_t slot;
  int32_t resets;  // 0: more history of an operation that an earlier round began
  int32_t bias_start = 0;
  int32_t history_start = 0, n_history = 0;
  int32_t n_generated_from = 0;  // history entries from this one on were generated
  int32_t reserved[2] = {};
};
static_assert(sizeof(StagedOp) == 80);

// A block of staging: ops[n_ops], then words of data.
struct StagingBlock {
  StagedOp ops[kRoundOps];
  int32_t data[(kStagingBytes - sizeof(StagedOp) * kRoundOps) / 4];
};
static_assert(sizeof(StagingBlock) == kStagingBytes);
static_assert(sizeof(LogitBias) == 8 && std::size(StagingBlock{}.data) > 2 * kMaxLogitBias);
constexpr int kDataWords = std::size(StagingBlock{}.data);

__device__ void count_one(uint32_t* count, bool generated) {
  atomicOr(count, kTokenInContext);
  if (generated) atomicAdd(count, 1u);
}

// CTA (piece, op).
__global__ void reset_slots(const StagingBlock* staging, DeviceSlots slots, int64_t stride) {
  const StagedOp& op = staging->ops[blockIdx.y];
  if (!op.resets) return;
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) slots.records[op.slot] = op.record;
    auto* bias = reinterpret_cast<int32_t*>(slots.bias + static_cast<int64_t>(op.slot) * kMaxLogitBias);
    for (int i = threadIdx.x; i < 2 * op.record.n_bias; i += kThreads) bias[i] = staging->data[op.bias_start + i];
  }
  if (!op.record.has_penalties) return;
  auto* counts = reinterpret_cast<uint4*>(slots.counts + op.slot * stride);
  for (int64_t i = blockIdx.x * kThreads + threadIdx.x; i < stride / 4; i += kResetCtas * kThreads)
    counts[i] = make_uint4(0, 0, 0, 0);
}

// CTA (piece, op).
__global__ void load_history(const StagingBlock* staging, DeviceSlots slots, int64_t stride) {
  const StagedOp& op = staging->ops[blockIdx.y];
  uint32_t* counts = slots.counts + op.slot * stride;
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < op.n_history; i += kHistoryCtas * kThreads)
    count_one(counts + staging->data[op.history_start + i], i >= op.n_generated_from);
}

__global__ void count_tokens_kernel(CountArgs args, int n_tokens, int slice, int64_t stride) {
  release_successor();
  wait_for_predecessor();
  const int t = blockIdx.x * kThreads + threadIdx.x;
  if (t >= n_tokens) return;
  const TokenCount count = args.counts[t];
  if (count.slot < 0) return;
  int32_t token = 0;
  if (slice == 0) {
    token = args.from_row[t] < 0 ? args.tokens[t] : args.previous_tokens[args.from_row[t]];
    args.resolved[t] = token;
  } else {
    token = args.resolved[t];
  }
  if (count.slice == slice) count_one(args.slots.counts + count.slot * stride + token, count.generated != 0);
}

bool penalises(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 || sampling.frequency_penalty != 0;
}

SlotRecord make_record(const SlotOp& op) {
  const SamplingParams& sampling = op.sampling;
  return {.repetition_penalty = sampling.repetition_penalty,
          .presence_penalty = sampling.presence_penalty,
          .frequency_penalty = sampling.frequency_penalty,
          .temperature = sampling.temperature,
          .typical_p = sampling.typical_p,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p,
          .top_k = sampling.top_k,
          .seed = sampling.seed,
          .n_bias = static_cast<int32_t>(op.logit_bias.size()),
          .has_penalties = penalises(sampling) ? 1 : 0};
}

}  // namespace

// One upload in the making.
struct SlotTable::Round {
  StagingBlock* block = nullptr;  // null: none begun
  int index = 0;                  // of the block
  int n_ops = 0, n_words = 0;
  bool has_history = false;
};

int64_t SlotTable::device_bytes(const Shape& shape) {
  const int64_t max_seqs = shape.max_seqs;
  return aligned(max_seqs * static_cast<int64_t>(sizeof(SlotRecord))) +
         aligned(max_seqs * kMaxLogitBias * static_cast<int64_t>(sizeof(LogitBias))) +
         aligned(max_seqs * logits_stride(shape.vocab_size) * static_cast<int64_t>(sizeof(uint32_t))) +
         aligned(kStagingBytes);
}

SlotTable::SlotTable(const Shape& shape, DeviceArena& device)
    : shape_(shape),
      host_(shape.max_seqs),
      order_(kMaxLogitBias),
      staging_("slot operations", kStagingBlocks * kStagingBytes),
      sent_(kStagingBlocks) {
  device_.records = device.take<SlotRecord>(shape.max_seqs);
  device_.bias = device.take<LogitBias>(int64_t{shape.max_seqs} * kMaxLogitBias);
  device_.counts = device.take<uint32_t>(shape.max_seqs * logits_stride(shape.vocab_size));
  device_staging_ = device.take<std::byte>(kStagingBytes);
  for (cudaEvent_t& event : sent_)
    SPATE_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event for slot operations");
}

SlotTable::~SlotTable() {
  for (cudaEvent_t event : sent_)
    if (event != nullptr) cudaEventDestroy(event);
}

bool SlotTable::is_plain_greedy(int slot) const {
  const HostSlot& host = host_[slot];
  return host.is_greedy && !host.has_bias && !host.has_penalties;
}

void SlotTable::apply(std::span<const SlotOp> ops, cudaStream_t stream) {
  Round round;
  for (size_t i = 0; i < ops.size(); ++i) {
    const SlotOp& op = ops[i];
    SPATE_CHECK(op.slot >= 0 && op.slot < shape_.max_seqs, "slot {} of {}", op.slot, shape_.max_seqs);
    const auto names_slot = [&](const SlotOp& later) { return later.slot == op.slot; };
    if (std::any_of(ops.begin() + i + 1, ops.end(), names_slot)) continue;
    host_[op.slot] = {.has_penalties = penalises(op.sampling),
                      .has_bias = !op.logit_bias.empty(),
                      .is_greedy = op.sampling.temperature == 0,
                      .n_prompt_tokens = op.n_prompt_tokens};
    stage(op, round, stream);
  }
  if (round.block != nullptr) send(round, stream);
}

void SlotTable::begin_round(Round& round) {
  round = {};
  round.index = next_block_;
  next_block_ = (next_block_ + 1) % kStagingBlocks;
  SPATE_CUDA(cudaEventSynchronize(sent_[round.index]), "waiting for the upload of slot operations");
  round.block = reinterpret_cast<StagingBlock*>(staging_.data() + round.index * kStagingBytes);
}

void SlotTable::stage(const SlotOp& op, Round& round, cudaStream_t stream) {
  const int n_bias = static_cast<int>(op.logit_bias.size());
  SPATE_CHECK(n_bias <= kMaxLogitBias, "{} biased tokens", n_bias);
  if (round.block != nullptr && (round.n_ops == kRoundOps || round.n_words + 2 * n_bias > kDataWords))
    send(round, stream);
  if (round.block == nullptr) begin_round(round);
  StagedOp staged = {.record = make_record(op), .slot = op.slot, .resets = 1, .bias_start = round.n_words};
  std::iota(order_.begin(), order_.begin() + n_bias, 0);
  std::sort(order_.begin(), order_.begin() + n_bias, [&](int a, int b) {
    const int32_t token_a = op.logit_bias[a].token, token_b = op.logit_bias[b].token;
    return token_a != token_b ? token_a < token_b : a < b;
  });
  for (int i = 0; i < n_bias; ++i, round.n_words += 2)
    std::memcpy(round.block->data + round.n_words, &op.logit_bias[order_[i]], sizeof(LogitBias));

  const int64_t n_history = staged.record.has_penalties ? static_cast<int64_t>(op.history.size()) : 0;
  for (int64_t done = 0;;) {
    const int n = static_cast<int>(std::min<int64_t>(n_history - done, kDataWords - round.n_words));
    if (n > 0) std::memcpy(round.block->data + round.n_words, op.history.data() + done, sizeof(int32_t) * n);
    staged.history_start = round.n_words;
    staged.n_history = n;
    staged.n_generated_from = static_cast<int32_t>(std::clamp<int64_t>(op.n_prompt_tokens - done, 0, n));
    round.n_words += n;
    round.has_history |= n > 0;
    round.block->ops[round.n_ops++] = staged;
    done += n;
    if (done == n_history) return;
    send(round, stream);
    begin_round(round);
    staged.resets = 0;
  }
}

void SlotTable::send(Round& round, cudaStream_t stream) {
  const size_t n_bytes = offsetof(StagingBlock, data) + sizeof(int32_t) * round.n_words;
  SPATE_CUDA(cudaMemcpyAsync(device_staging_, round.block, n_bytes, cudaMemcpyHostToDevice, stream),
             "uploading {} slot operations, {} bytes", round.n_ops, n_bytes);
  SPATE_CUDA(cudaEventRecord(sent_[round.index], stream), "marking the upload of slot operations");
  const auto* staging = reinterpret_cast<const StagingBlock*>(device_staging_);
  const int64_t stride = logits_stride(shape_.vocab_size);
  const auto n_ops = static_cast<unsigned>(round.n_ops);
  SPATE_CUDA(
      launch({.grid = {kResetCtas, n_ops}, .block = kThreads, .stream = stream}, reset_slots, staging, device_, stride),
      "resetting {} slots", n_ops);
  if (round.has_history)
    SPATE_CUDA(launch({.grid = {kHistoryCtas, n_ops}, .block = kThreads, .stream = stream}, load_history, staging,
                      device_, stride),
               "loading the history of {} slots", n_ops);
  round = {};
}

void count_tokens(const CountArgs& args, int n_tokens, int slice, bool dependent, cudaStream_t stream) {
  if (n_tokens == 0) return;
  const auto n_ctas = static_cast<unsigned>((n_tokens + kThreads - 1) / kThreads);
  SPATE_CUDA(launch({.grid = n_ctas, .block = kThreads, .stream = stream, .dependent = dependent}, count_tokens_kernel,
                    args, n_tokens, slice, logits_stride(args.vocab_size)),
             "counting {} tokens before slice {}", n_tokens, slice);
}

}  // namespace spate::cuda
