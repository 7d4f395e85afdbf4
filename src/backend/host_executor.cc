#include "backend/host_executor.h"

#include <algorithm>

namespace spate {

namespace {

// Rows whose logits are computed at a time: enough for the matrix product to reuse the head's weights, within 64 MB.
int logits_rows(int vocab_size, int max_rows) {
  constexpr int64_t kBudgetElems = int64_t{16} << 20;
  return static_cast<int>(std::clamp<int64_t>(kBudgetElems / vocab_size, 1, std::max(1, max_rows)));
}

}  // namespace

HostExecutor::HostExecutor(const ExecutorLimits& limits, int vocab_size, int d_model, int sampling_threads)
    : limits_(limits),
      vocab_size_(vocab_size),
      d_model_(d_model),
      logits_rows_(logits_rows(vocab_size, limits.max_step_tokens)),
      slots_(limits.max_seqs),
      logits_(static_cast<size_t>(logits_rows_) * vocab_size),
      scratch_(sampling_threads) {
  tokens_.reserve(limits.max_step_tokens);
  seq_of_token_.reserve(limits.max_step_tokens);
}

HostExecutor::~HostExecutor() {
  SPATE_CHECK(!thread_.joinable(), "a host executor must stop() in its destructor");
}

void HostExecutor::start() {
  thread_ = std::thread([this] { run_steps(); });
}

void HostExecutor::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

StepId HostExecutor::enqueue(const StepBatch& batch) {
  check_batch(batch, limits_, vocab_size_);
  std::lock_guard lock(mutex_);
  SPATE_CHECK(enqueued_ - waited_ < kMaxStepsInFlight, "{} steps are in flight already", kMaxStepsInFlight);
  Step& step = steps_[++enqueued_ % kMaxStepsInFlight];
  step.id = enqueued_;
  step.batch = batch;
  step.result.reset();
  changed_.notify_all();
  return step.id;
}

Result<StepOutput> HostExecutor::wait(StepId id) {
  std::unique_lock lock(mutex_);
  SPATE_CHECK(id == waited_ + 1 && id <= enqueued_, "step {} is not the oldest one in flight", id);
  changed_.wait(lock, [&] { return completed_ >= id; });
  waited_ = id;
  return std::move(*steps_[id % kMaxStepsInFlight].result);
}

void HostExecutor::run_steps() {
  for (;;) {
    Step* step = nullptr;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || enqueued_ > completed_; });
      if (stopping_) return;
      step = &steps_[(completed_ + 1) % kMaxStepsInFlight];
    }
    Result<StepOutput> result = failure_ ? Result<StepOutput>(*failure_) : run_step(step->batch);
    if (!result.ok()) failure_ = result.error();
    {
      std::lock_guard lock(mutex_);
      step->result.emplace(std::move(result));
      ++completed_;
    }
    changed_.notify_all();
  }
}

int64_t HostExecutor::position_of(const StepBatch& batch, int token_index) const {
  const int s = seq_of_token_[token_index];
  return batch.kv_len[s] - batch.q_start[s + 1] + token_index;
}

// Slot operations first, then the step's tokens enter their sequences' contexts.
void HostExecutor::load_slots(const StepBatch& batch) {
  for (const SlotOp& op : batch.slot_ops) slots_[op.slot].reset(op, vocab_size_);
  tokens_.resize(batch.n_tokens());
  seq_of_token_.resize(batch.n_tokens());
  for (int s = 0; s < batch.n_seqs(); ++s) {
    for (int t = batch.q_start[s]; t < batch.q_start[s + 1]; ++t) {
      const int row = batch.from_row[t];
      SPATE_CHECK(row < static_cast<int>(previous_tokens_.size()), "token {} is to come from row {} of {}", t, row,
                  previous_tokens_.size());
      tokens_[t] = row < 0 ? batch.tokens[t] : previous_tokens_[row];
      seq_of_token_[t] = s;
    }
  }
}

Result<StepOutput> HostExecutor::run_step(const StepBatch& batch) {
  load_slots(batch);
  SPATE_TRY_VOID(run_layers(batch, tokens_));
  StepOutput output;
  output.rows.resize(batch.n_rows());
  sample(batch, output);
  previous_tokens_.resize(batch.n_rows());
  for (int r = 0; r < batch.n_rows(); ++r) previous_tokens_[r] = output.rows[r].token;
  return output;
}

void HostExecutor::sample(const StepBatch& batch, StepOutput& output) {
  // A row's penalties count the tokens up to and including its own.
  auto count_until = [&, next = 0](int token_end) mutable {
    for (; next < token_end; ++next) {
      SlotState& slot = slots_[batch.slot[seq_of_token_[next]]];
      slot.count(tokens_[next], static_cast<int32_t>(position_of(batch, next)));
    }
  };
  for (int first = 0; first < batch.n_rows();) {
    const Row& first_row = batch.rows[first];
    if (first_row.kind == RowKind::kHidden) {
      const float* hidden = row_hidden() + static_cast<int64_t>(first) * d_model_;
      output.rows[first++].hidden.assign(hidden, hidden + d_model_);
      continue;
    }
    // A slice ends before the second drawn row of a slot, so that each finds its slot as of its own token.
    int n = 1;
    for (; n < logits_rows_ && first + n < batch.n_rows(); ++n) {
      const Row& row = batch.rows[first + n];
      const bool slot_repeats = row.kind == RowKind::kSample && batch.rows[first + n - 1].slot == row.slot;
      if (row.kind == RowKind::kHidden || slot_repeats) break;
    }
    count_until(batch.rows[first + n - 1].token_index + 1);
    row_logits(first, n, logits_.data());
    parallel_rows(n, [&](int thread, int i) {
      const Row& row = batch.rows[first + i];
      const std::span<const float> logits(logits_.data() + static_cast<int64_t>(i) * vocab_size_, vocab_size_);
      const int64_t position = position_of(batch, row.token_index) + 1;
      output.rows[first + i] = sample_row(row, logits, slots_[row.slot], position, scratch_[thread]);
    });
    first += n;
    note_progress();
  }
  count_until(batch.n_tokens());
}

}  // namespace spate
