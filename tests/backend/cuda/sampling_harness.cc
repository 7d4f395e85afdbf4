#include "sampling_harness.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/softmax.h"

namespace spate::cuda::testing {
namespace {

constexpr int kPoison = 0xff;

int64_t position_of(const StepBatch& batch, int seq, int token_index) {
  return batch.kv_len[seq] - batch.q_start[seq + 1] + token_index;
}

}  // namespace

SamplingHarness::SamplingHarness(const Shape& shape, const DeviceProfile& profile)
    : shape_(shape),
      dependent_(profile.dependent_launch),
      scratch_memory_("scratch", sampling_scratch_bytes(shape.slice_rows, shape.vocab_size), false),
      slot_memory_("slots", SlotTable::device_bytes({.max_seqs = shape.max_seqs, .vocab_size = shape.vocab_size}),
                   false),
      scratch_(take_sampling_scratch(shape.slice_rows, shape.vocab_size, scratch_memory_)),
      slots_({.max_seqs = shape.max_seqs, .vocab_size = shape.vocab_size}, slot_memory_),
      logits_(static_cast<size_t>(shape.slice_rows) * logits_stride(shape.vocab_size)),
      hidden_(static_cast<size_t>(shape.slice_rows) * shape.d_model),
      rows_(shape.max_tokens),
      token_counts_(shape.max_tokens),
      n_rows_real_(1),
      tokens_(shape.max_tokens),
      from_row_(shape.max_tokens),
      resolved_(shape.max_tokens),
      drawn_(shape.max_tokens),
      output_(max_output_bytes(shape.max_tokens, shape.max_tokens, shape.d_model)),
      host_slots_(shape.max_seqs) {
  SPATE_CUDA(cudaStreamCreate(&stream_), "making a stream");
  SPATE_CUDA(cudaMemset(slot_memory_.data(), kPoison, slot_memory_.n_bytes()), "poisoning");
  drawn_.fill(kPoison);
}

SamplingHarness::~SamplingHarness() {
  cudaStreamDestroy(stream_);
}

std::vector<uint32_t> SamplingHarness::counts(int slot) const {
  std::vector<uint32_t> out(shape_.vocab_size);
  SPATE_CUDA(cudaMemcpy(out.data(), slots_.device().counts + slot * logits_stride(shape_.vocab_size),
                        out.size() * sizeof(uint32_t), cudaMemcpyDeviceToHost),
             "reading counts");
  return out;
}

SampleArgs SamplingHarness::sample_args(int first_row) const {
  return {.logits = logits_.get(),
          .rows = rows_.get(),
          .n_rows_real = n_rows_real_.get(),
          .first_row = first_row,
          .vocab_size = shape_.vocab_size,
          .slots = slots_.device(),
          .scratch = scratch_,
          .drawn = drawn_.get(),
          .output = output_.get()};
}

void SamplingHarness::upload(const StepBatch& batch) {
  slots_.apply(batch.slot_ops, stream_);
  std::vector<RowSpec> rows(shape_.max_tokens);
  std::vector<TokenCount> token_counts(shape_.max_tokens);
  plan_rows(batch, slots_, shape_.slice_rows, shape_.d_model, rows, token_counts, plan_);
  SPATE_CUDA(cudaStreamSynchronize(stream_), "slot operations");
  rows_.fill(kPoison);
  rows.resize(batch.n_rows());
  rows_.upload(rows);
  token_counts_.upload(token_counts);
  n_rows_real_.upload({batch.n_rows()});
  tokens_.upload(batch.tokens);
  from_row_.upload(batch.from_row);
  SPATE_CUDA(cudaMemset(scratch_memory_.data(), kPoison, scratch_memory_.n_bytes()), "poisoning");
  output_.fill(kPoison);
  resolved_.fill(kPoison);
}

// What lies between two rows of logits, and in rows that the slice does not have, stays NaN.
void SamplingHarness::upload_logits(const std::vector<float>& logits, const RowSlice& slice) {
  logits_.fill(kPoison);
  const size_t row_bytes = shape_.vocab_size * sizeof(float);
  SPATE_CUDA(cudaMemcpy2D(logits_.get(), logits_stride(shape_.vocab_size) * sizeof(float),
                          logits.data() + static_cast<size_t>(slice.first) * shape_.vocab_size, row_bytes, row_bytes,
                          slice.n, cudaMemcpyHostToDevice),
             "uploading {} rows of logits", slice.n);
}

void SamplingHarness::count(int n_tokens, int slice) {
  count_tokens({.tokens = tokens_.get(),
                .from_row = from_row_.get(),
                .previous_tokens = drawn_.get(),
                .counts = token_counts_.get(),
                .resolved = resolved_.get(),
                .vocab_size = shape_.vocab_size,
                .slots = slots_.device()},
               n_tokens, slice, dependent_, stream_);
}

std::vector<RowOutput> SamplingHarness::read(const StepBatch& batch) const {
  SPATE_CUDA(cudaStreamSynchronize(stream_), "sampling {} rows", batch.n_rows());
  const std::vector<std::byte> output = output_.download();
  std::vector<RowOutput> out;
  read_rows(batch.rows, output.data(), shape_.vocab_size, shape_.d_model, out);
  return out;
}

std::vector<RowOutput> SamplingHarness::device_step(const StepBatch& batch, const std::vector<float>& logits,
                                                    const std::vector<float>& hidden, bool full) {
  upload(batch);
  if (plan_.counts) count(shape_.max_tokens, 0);
  for (size_t i = 0; i < plan_.slices.size(); ++i) {
    const RowSlice& slice = plan_.slices[i];
    if (plan_.counts && i > 0) count(shape_.max_tokens, static_cast<int>(i));
    if (slice.hidden) {
      const auto* begin = hidden.data() + static_cast<size_t>(slice.first) * shape_.d_model;
      hidden_.upload(std::vector<float>(begin, begin + static_cast<size_t>(slice.n) * shape_.d_model));
      copy_hidden({.hidden = hidden_.get(),
                   .rows = rows_.get(),
                   .n_rows_real = n_rows_real_.get(),
                   .first_row = slice.first,
                   .d_model = shape_.d_model,
                   .drawn = drawn_.get(),
                   .output = output_.get()},
                  slice.n, dependent_, stream_);
    } else {
      upload_logits(logits, slice);
      sample_rows(sample_args(slice.first), full ? SamplingPath::kFull : plan_.path, slice.n, dependent_, stream_);
    }
    SPATE_CUDA(cudaStreamSynchronize(stream_), "sampling a slice of {} rows", slice.n);
  }
  if (plan_.has_tail) count(shape_.max_tokens, static_cast<int>(plan_.slices.size()));
  return read(batch);
}

std::vector<RowOutput> SamplingHarness::host_step(const StepBatch& batch, const std::vector<float>& logits) {
  for (const SlotOp& op : batch.slot_ops) host_slots_[op.slot].reset(op, shape_.vocab_size);
  std::vector<RowOutput> out(batch.n_rows());
  adjusted_.assign(batch.n_rows(), {});
  SamplerScratch scratch;
  int r = 0;
  for (int s = 0; s < batch.n_seqs(); ++s) {
    SlotState& slot = host_slots_[batch.slot[s]];
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
      const auto position = static_cast<int32_t>(position_of(batch, s, t));
      slot.count(batch.from_row[t] < 0 ? batch.tokens[t] : host_drawn_[batch.from_row[t]], position);
      for (; r < batch.n_rows() && batch.rows[r].token_index == t; ++r) {
        if (batch.rows[r].kind == RowKind::kHidden) continue;
        const auto* begin = logits.data() + static_cast<size_t>(r) * shape_.vocab_size;
        adjusted_[r].assign(begin, begin + shape_.vocab_size);
        out[r] = sample_row(batch.rows[r], adjusted_[r], slot, position + 1, scratch);
        if (batch.rows[r].kind == RowKind::kSample) slot.apply(adjusted_[r]);
      }
    }
  }
  host_drawn_.clear();
  for (const RowOutput& row : out) host_drawn_.push_back(row.token);
  return out;
}

StepBatch decode_batch(int n_rows, int vocab_size, std::mt19937& random) {
  StepBatch batch;
  batch.q_start = {0};
  for (int i = 0; i < n_rows; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(random() % vocab_size));
    batch.from_row.push_back(-1);
    batch.slot.push_back(i);
    batch.q_start.push_back(i + 1);
    batch.kv_len.push_back(static_cast<int32_t>(1 + random() % 5000));
    batch.rows.push_back({.token_index = i, .slot = i});
  }
  return batch;
}

namespace {

struct Weighed {
  int32_t token;
  float key, weight;
};

double total_of(const std::vector<Weighed>& left) {
  double total = 0;
  for (const Weighed& w : left) total += w.weight;
  return total;
}

// Keeps the fewest by descending key that reach the share; notes how near the sums around its end come to it.
void keep_share(std::vector<Weighed>& left, double share, double& nearest) {
  const double total = total_of(left), wanted = share * total;
  std::vector<Weighed> order = left;
  std::sort(order.begin(), order.end(),
            [](const Weighed& a, const Weighed& b) { return a.key != b.key ? a.key > b.key : a.token < b.token; });
  double sum = order[0].weight;
  size_t n = 1;
  for (; n < order.size() && sum < wanted; ++n) {
    nearest = std::min(nearest, std::abs(sum - wanted) / total);
    sum += order[n].weight;
  }
  nearest = std::min(nearest, std::abs(sum - wanted) / total);
  order.resize(n);
  std::sort(order.begin(), order.end(), [](const Weighed& a, const Weighed& b) { return a.token < b.token; });
  left = order;
}

void keep_typical(std::vector<Weighed>& left, const SamplingParams& sampling, float max, double& nearest) {
  const double total = total_of(left);
  const auto log_total = static_cast<float>(std::log(total));
  double entropy = 0;
  for (Weighed& w : left) {
    w.key = (w.key == max ? 0 : (w.key - max) / sampling.temperature) - log_total;
    entropy -= w.weight / total * w.key;
  }
  for (Weighed& w : left) w.key = -std::abs(w.key + static_cast<float>(entropy));
  keep_share(left, sampling.typical_p, nearest);
}

}  // namespace

double nearest_bound(const std::vector<float>& logits, const SamplingParams& sampling, int64_t position) {
  const float max = softmax::arg_max(logits).logit;
  std::vector<Weighed> left;
  for (size_t i = 0; i < logits.size(); ++i)
    if (const float weight = softmax::weight(logits[i], max, sampling.temperature); weight > 0)
      left.push_back({static_cast<int32_t>(i), logits[i], weight});
  if (sampling.top_k > 0 && sampling.top_k < static_cast<int>(left.size())) {
    std::stable_sort(left.begin(), left.end(), [](const Weighed& a, const Weighed& b) { return a.key > b.key; });
    left.resize(sampling.top_k);
    std::sort(left.begin(), left.end(), [](const Weighed& a, const Weighed& b) { return a.token < b.token; });
  }
  double nearest = 1;
  if (sampling.typical_p < 1) keep_typical(left, sampling, max, nearest);
  for (Weighed& w : left) w.key = w.weight;
  if (sampling.top_p < 1) keep_share(left, sampling.top_p, nearest);
  float most = 0;
  for (const Weighed& w : left) most = std::max(most, w.weight);
  if (sampling.min_p > 0) std::erase_if(left, [&](const Weighed& w) { return w.weight < sampling.min_p * most; });
  const double total = total_of(left), target = total * uniform_draw(sampling.seed, position);
  double sum = 0;
  for (const Weighed& w : left) {
    sum += w.weight;
    nearest = std::min(nearest, std::abs(sum - target) / total);
  }
  return nearest;
}

}  // namespace spate::cuda::testing
