#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace spate {

void StepPlan::clear() {
  batch.tokens.clear();
  batch.from_row.clear();
  batch.slot_ops.clear();
  batch.slot.clear();
  batch.q_start.assign(1, 0);
  batch.kv_len.clear();
  batch.groups.resize(1);
  batch.groups[0].start.assign(1, 0);
  batch.groups[0].pages.clear();
  batch.rows.clear();
  parts.clear();
}

Scheduler::Scheduler(const ExecutorLimits& limits, int max_step_tokens, bool retain_last)
    : max_step_tokens_(max_step_tokens),
      max_running_(std::min(limits.max_seqs, max_step_tokens)),
      pages_(limits.n_pages),
      slots_(limits.max_seqs),
      retain_last_(retain_last) {
  SPATE_CHECK(max_step_tokens >= 1 && max_step_tokens <= limits.max_step_tokens, "{} tokens a step of at most {}",
              max_step_tokens, limits.max_step_tokens);
}

void Scheduler::add(std::shared_ptr<Sequence> sequence) {
  SPATE_CHECK(pages_for(sequence->max_kv_tokens()) <= pages_.size(), "request {} can never run", sequence->id);
  waiting_.push_back(std::move(sequence));
}

void Scheduler::remove(Sequence& sequence) {
  const auto is_it = [&](const std::shared_ptr<Sequence>& other) { return other.get() == &sequence; };
  if (sequence.state == Sequence::State::kRunning) {
    n_pages_promised_ -= pages_for(sequence.max_kv_tokens()) - static_cast<int>(sequence.pages.size());
    slots_.release({&sequence.slot, 1}, sequence.last_step);
    if (retain_last_)
      retain(sequence);
    else
      pages_.release(sequence.pages, sequence.last_step);
    sequence.pages.clear();
    std::erase_if(running_, is_it);
  } else if (sequence.state == Sequence::State::kWaiting) {
    std::erase_if(waiting_, is_it);
  }
  sequence.state = Sequence::State::kFinished;
}

bool Scheduler::plan(StepPlan& plan) {
  plan.clear();
  for (const auto& sequence : running_)
    if (sequence->wants_decode()) add_part(plan, sequence, 1);
  const auto budget = [&] { return max_step_tokens_ - plan.batch.n_tokens(); };
  const auto add_prefill = [&](const std::shared_ptr<Sequence>& sequence) {
    add_part(plan, sequence, std::min(budget(), sequence->n_prompt() - sequence->n_planned));
  };
  for (const auto& sequence : running_)
    if (sequence->wants_prefill() && budget() > 0) add_prefill(sequence);
  while (budget() > 0 && !waiting_.empty() && make_room(*waiting_.front())) {
    admit_first(plan);
    add_prefill(running_.back());
  }
  return !plan.parts.empty();
}

// Whether the sequence can start now; gives up the retained pages if it takes that.
bool Scheduler::make_room(const Sequence& sequence) {
  if (static_cast<int>(running_.size()) >= max_running_ || slots_.n_free() == 0) return false;
  const int n_reused = n_reusable(sequence);
  // A step in flight may still write to the retained pages. It completes whatever happens here.
  if (n_reused > 0 && retained_.last_step > last_completed_) return false;
  const auto fits = [&](int n_more) {
    return pages_for(sequence.max_kv_tokens()) <= pages_.n_free() + n_more - n_pages_promised_;
  };
  // What it takes over, and what is left over of it, is as good as free.
  if (n_reused > 0) return fits(static_cast<int>(retained_.pages.size()));
  if (fits(0)) return true;
  drop_retained();
  return fits(0);
}

int Scheduler::n_reusable(const Sequence& sequence) const {
  return sequence.request.prompt_logprobs ? 0 : retained_.n_reusable(sequence.request.prompt);
}

void Scheduler::drop_retained() {
  pages_.release(retained_.pages, retained_.last_step);
  retained_ = {};
}

void Scheduler::take_over_retained(Sequence& sequence) {
  const int n_reused = n_reusable(sequence);
  if (n_reused == 0) return;
  sequence.pages = std::move(retained_.pages);
  const auto n_kept = static_cast<size_t>(pages_for(n_reused));
  pages_.release(std::span(sequence.pages).subspan(n_kept), retained_.last_step);
  sequence.pages.resize(n_kept);
  pages_.transfer(sequence.pages, sequence.id);
  sequence.n_planned = n_reused;
  sequence.last_step = retained_.last_step;
  retained_ = {};
}

// Keys are there for the positions that were planned, and worth something where the token is known that ran there.
void Scheduler::retain(Sequence& sequence) {
  drop_retained();
  const size_t n_tokens = std::min(sequence.tokens.size(), static_cast<size_t>(sequence.n_planned));
  retained_ = {
      .tokens = std::move(sequence.tokens), .pages = std::move(sequence.pages), .last_step = sequence.last_step};
  retained_.tokens.resize(n_tokens);
}

void Scheduler::admit_first(StepPlan& plan) {
  Sequence& sequence = *waiting_.front();
  sequence.state = Sequence::State::kRunning;
  take_over_retained(sequence);
  n_pages_promised_ += pages_for(sequence.max_kv_tokens()) - static_cast<int>(sequence.pages.size());
  std::vector<int32_t> slot;
  slots_.allocate(1, sequence.id, slot);
  sequence.slot = slot[0];
  plan.batch.slot_ops.push_back({.slot = sequence.slot,
                                 .sampling = sequence.request.sampling,
                                 .logit_bias = sequence.request.logit_bias,
                                 .n_prompt_tokens = sequence.n_prompt(),
                                 .history = {sequence.tokens.begin(), sequence.tokens.begin() + sequence.n_planned}});
  running_.push_back(std::move(waiting_.front()));
  waiting_.pop_front();
}

void Scheduler::add_part(StepPlan& plan, const std::shared_ptr<Sequence>& sequence, int n_tokens) {
  StepBatch& batch = plan.batch;
  const int n_new_pages = pages_for(sequence->n_planned + n_tokens) - static_cast<int>(sequence->pages.size());
  pages_.allocate(n_new_pages, sequence->id, sequence->pages);
  n_pages_promised_ -= n_new_pages;

  const int32_t first_row = batch.n_rows();
  add_rows(batch, *sequence, n_tokens);
  add_tokens(batch, *sequence, n_tokens);
  n_prompt_tokens_run_ += std::clamp(sequence->n_prompt() - sequence->n_planned, 0, n_tokens);
  sequence->n_planned += n_tokens;

  batch.slot.push_back(sequence->slot);
  batch.q_start.push_back(batch.n_tokens());
  batch.kv_len.push_back(sequence->n_planned);
  PageTable& table = batch.groups[0];
  table.pages.insert(table.pages.end(), sequence->pages.begin(), sequence->pages.end());
  table.start.push_back(static_cast<int32_t>(table.pages.size()));
  plan.parts.push_back({sequence, first_row, batch.n_rows() - first_row, sequence->n_planned});
}

void Scheduler::add_tokens(StepBatch& batch, const Sequence& sequence, int n_tokens) const {
  for (int position = sequence.n_planned; position < sequence.n_planned + n_tokens; ++position) {
    if (position < static_cast<int>(sequence.tokens.size())) {
      batch.tokens.push_back(sequence.tokens[position]);
      batch.from_row.push_back(-1);
    } else {
      // Still on the device: drawn by the step before this one, as all earlier steps have come back.
      SPATE_CHECK(sequence.last_step == last_enqueued_ && n_tokens == 1, "request {}: token {} was never drawn",
                  sequence.id, position);
      batch.tokens.push_back(0);
      batch.from_row.push_back(sequence.drawn_row);
    }
  }
}

// Rows for the sequence's next n_tokens, whose first will be the batch's next token.
void Scheduler::add_rows(StepBatch& batch, Sequence& sequence, int n_tokens) const {
  const int n_prompt = sequence.n_prompt();
  const int end = sequence.n_planned + n_tokens;
  const auto add_row = [&](int position, RowKind kind, int32_t target) {
    batch.rows.push_back({.token_index = batch.n_tokens() + position - sequence.n_planned,
                          .slot = sequence.slot,
                          .kind = kind,
                          .target = target,
                          .n_logprobs = sequence.request.n_logprobs});
  };
  if (sequence.request.prompt_logprobs)
    for (int position = sequence.n_planned; position < std::min(end, n_prompt - 1); ++position)
      add_row(position, RowKind::kScore, sequence.request.prompt[position + 1]);
  if (end >= n_prompt && sequence.n_samples_planned < sequence.max_tokens) {
    add_row(end - 1, RowKind::kSample, 0);
    ++sequence.n_samples_planned;
  }
}

void Scheduler::enqueued(const StepPlan& plan, StepId step) {
  last_enqueued_ = step;
  for (const StepPlan::Part& part : plan.parts) {
    part.sequence->last_step = step;
    part.sequence->drawn_row = part.first_row + part.n_rows - 1;
  }
}

void Scheduler::completed(StepId step) {
  last_completed_ = step;
  pages_.completed(step);
  slots_.completed(step);
}

}  // namespace spate
