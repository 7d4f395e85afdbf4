#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace spate {
namespace {

// Prompts that are looked at for a step's budget: enough that a short one is among them, few enough that looking them
// up in the prefix cache is nothing beside a step.
constexpr size_t kPromptsAtOnce = 8;

bool by_rank(const std::shared_ptr<Sequence>& a, const std::shared_ptr<Sequence>& b) {
  return a->rank < b->rank;
}

bool by_turn(const std::shared_ptr<Sequence>& a, const std::shared_ptr<Sequence>& b) {
  const bool a_is_new = a->n_preemptions == 0, b_is_new = b->n_preemptions == 0;
  return std::tie(a_is_new, a->rank) < std::tie(b_is_new, b->rank);
}

template <typename Order>
void insert_sorted(std::vector<std::shared_ptr<Sequence>>& sequences, std::shared_ptr<Sequence> sequence, Order order) {
  sequences.insert(std::upper_bound(sequences.begin(), sequences.end(), sequence, order), std::move(sequence));
}

void erase(std::vector<std::shared_ptr<Sequence>>& sequences, const Sequence& sequence) {
  std::erase_if(sequences, [&](const std::shared_ptr<Sequence>& other) { return other.get() == &sequence; });
}

std::span<const int32_t> cacheable(const Sequence& sequence) {
  return std::span(sequence.tokens).first(static_cast<size_t>(sequence.max_cached_tokens()));
}

// Pages that let a sequence of n tokens run them and, if it may, the token drawn then.
int pages_wanted(const Sequence& sequence, int n_tokens) {
  return pages_for(std::min(n_tokens + 1, sequence.max_kv_tokens()));
}

}  // namespace

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
  n_decodes = 0;
}

Scheduler::Scheduler(const ExecutorLimits& limits, const SchedulerOptions& options)
    : options_(options),
      max_running_(std::min(limits.max_seqs, options.max_step_tokens)),
      pages_(limits.n_pages, options.kv_reuse),
      slots_(limits.max_seqs),
      times_(options.max_decode_stretch) {
  SPATE_CHECK(options.max_step_tokens >= 1 && options.max_step_tokens <= limits.max_step_tokens,
              "{} tokens a step of at most {}", options.max_step_tokens, limits.max_step_tokens);
}

void Scheduler::add(std::shared_ptr<Sequence> sequence) {
  SPATE_CHECK(pages_for(sequence->max_kv_tokens()) <= pages_.size(), "request {} can never run", sequence->id());
  insert_sorted(waiting_, std::move(sequence), by_turn);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.state == Sequence::State::kRunning) {
    publish(sequence);
    const int n_kept = std::min(sequence.n_tokens(), sequence.n_planned);
    pages_.publish_rest(sequence.pages, std::span(sequence.tokens).first(static_cast<size_t>(n_kept)),
                        sequence.request.cache_salt);
    give_back(sequence);
    erase(running_, sequence);
  } else if (sequence.state == Sequence::State::kWaiting) {
    erase(waiting_, sequence);
  }
  sequence.state = Sequence::State::kFinished;
}

int Scheduler::n_preempted() const {
  const auto is_new = [](const auto& sequence) { return sequence->n_preemptions == 0; };
  return static_cast<int>(std::find_if(waiting_.begin(), waiting_.end(), is_new) - waiting_.begin());
}

bool Scheduler::plan(StepPlan& plan) {
  plan.clear();
  plan_decodes(plan);
  plan_prompts(plan);
  return !plan.parts.empty();
}

void Scheduler::plan_decodes(StepPlan& plan) {
  int n_claimed = 0;
  for (size_t i = 0; i < running_.size(); ++i) {  // preemption shortens it, from its end
    const std::shared_ptr<Sequence> sequence = running_[i];
    if (!sequence->wants_decode() || !get_next_page(*sequence, n_claimed)) continue;
    add_part(plan, sequence, 1);
    ++plan.n_decodes;
  }
}

// Whether the sequence's next token has a place. n_claimed: of the pages that come back with the steps in flight, those
// that sequences before this one wait for.
bool Scheduler::get_next_page(Sequence& sequence, int& n_claimed) {
  if (pages_for(sequence.n_planned + 1) <= static_cast<int>(sequence.pages.size())) return true;
  while (pages_.allocate(1, sequence.pages) == 0) {
    if (n_claimed < pages_.n_coming()) {
      ++n_claimed;
      return false;
    }
    const std::shared_ptr<Sequence> victim = running_.back();
    preempt(victim);
    if (victim.get() == &sequence) return false;
  }
  return true;
}

void Scheduler::plan_prompts(StepPlan& plan) {
  int budget = options_.max_step_tokens - plan.batch.n_tokens();
  if (budget <= 0) return;
  std::vector<Prompt> prompts = this->prompts();
  if (prompts.empty()) return;
  if (plan.n_decodes > 0) {
    int64_t n_wanted = 0;
    for (const Prompt& prompt : prompts) n_wanted += prompt.n_left;
    n_wanted = std::min<int64_t>(n_wanted, budget);
    budget = std::min(budget, times_.n_prompt_tokens_beside(plan.n_decodes, static_cast<int>(n_wanted)));
  }
  if (budget <= 0) return;
  const auto give = [&](Prompt& prompt, int n_most) {
    const int n = std::min({n_most, budget, prompt.n_left - prompt.n_given});
    prompt.n_given += n;
    budget -= n;
  };
  if (!prompts.empty()) give(prompts.front(), (budget + 1) / 2);
  std::vector<Prompt*> shortest_first;
  for (Prompt& prompt : prompts) shortest_first.push_back(&prompt);
  std::ranges::stable_sort(shortest_first, {}, &Prompt::n_left);
  for (Prompt* prompt : shortest_first) give(*prompt, budget);

  for (const Prompt& prompt : prompts) {
    if (prompt.n_given == 0) continue;
    Sequence& sequence = *prompt.sequence;
    if (sequence.state == Sequence::State::kWaiting && !admit(plan, prompt.sequence)) continue;
    const int n_held = static_cast<int>(sequence.pages.size());
    pages_.allocate(pages_for(sequence.n_planned + prompt.n_given) - n_held, sequence.pages);
    const int n_places = static_cast<int>(sequence.pages.size()) * kPageTokens - sequence.n_planned;
    const int n_tokens = std::min({prompt.n_given, n_places, sequence.n_known_at_start - sequence.n_planned});
    if (n_tokens > 0) add_part(plan, prompt.sequence, n_tokens);
  }
}

// The prompts that may run now, by rank: those begun, and those that could be admitted together, in their turn.
std::vector<Scheduler::Prompt> Scheduler::prompts() const {
  std::vector<Prompt> prompts;
  for (const auto& sequence : running_)
    if (sequence->wants_prefill()) prompts.push_back({sequence, sequence->n_known_at_start - sequence->n_planned});
  add_waiting_prompts(prompts);
  std::ranges::sort(prompts, {}, [](const Prompt& prompt) { return prompt.sequence->rank; });
  return prompts;
}

void Scheduler::add_waiting_prompts(std::vector<Prompt>& prompts) const {
  int n_slots = std::min(slots_.n_free(), max_running_ - static_cast<int>(running_.size()));
  int n_pages = pages_.size() - pages_.n_held() - static_cast<int>(running_.size());
  for (const Prompt& prompt : prompts)
    n_pages -= pages_wanted(*prompt.sequence, prompt.sequence->n_known_at_start) -
               static_cast<int>(prompt.sequence->pages.size());
  for (const auto& sequence : waiting_) {
    if (n_slots == 0 || prompts.size() >= kPromptsAtOnce) return;
    if (!is_ready(*sequence)) {
      if (sequence->n_preemptions > 0) return;
      continue;
    }
    const KvPages::Match match = pages_.match(cacheable(*sequence), sequence->request.cache_salt);
    const int n_wanted = pages_wanted(*sequence, sequence->n_tokens()) - match.n_held;
    if (n_wanted > n_pages) return;
    n_pages -= n_wanted;
    --n_slots;
    prompts.push_back({sequence, sequence->n_tokens() - match.n_pages * kPageTokens});
  }
}

// A preempted sequence waits until what it has in flight is known; a choice, until the first has run the prompt.
bool Scheduler::is_ready(const Sequence& sequence) const {
  if (sequence.last_step > last_completed_) return false;
  const std::shared_ptr<const Sequence> leader = sequence.leader.lock();
  if (!leader || leader->state == Sequence::State::kFinished || leader->n_preemptions > 0) return true;
  return leader->state == Sequence::State::kRunning && !leader->wants_prefill();
}

// Gives a waiting sequence its slot and what the cache has of it; false where it then could not run a token.
bool Scheduler::admit(StepPlan& plan, const std::shared_ptr<Sequence>& sequence) {
  Sequence& s = *sequence;
  pages_.share(cacheable(s), s.request.cache_salt, s.pages);
  s.n_published = static_cast<int>(s.pages.size());
  s.n_planned = s.n_published * kPageTokens;
  s.n_planned +=
      pages_.take_over(cacheable(s).subspan(static_cast<size_t>(s.n_planned)), s.request.cache_salt, s.pages);
  if (pages_for(s.n_planned + 1) > static_cast<int>(s.pages.size()) && pages_.allocate(1, s.pages) == 0) {
    pages_.release(s.pages, 0);
    s.pages.clear();
    s.n_published = s.n_planned = 0;
    return false;
  }
  std::vector<int32_t> slot;
  slots_.allocate(1, s.id(), slot);
  s.slot = slot[0];
  s.n_known_at_start = s.n_tokens();
  plan.batch.slot_ops.push_back({.slot = s.slot,
                                 .sampling = s.request.sampling,
                                 .logit_bias = s.request.logit_bias,
                                 .n_prompt_tokens = s.n_prompt(),
                                 .history = {s.tokens.begin(), s.tokens.begin() + s.n_planned}});
  if (!s.was_admitted) {
    s.was_admitted = true;
    s.n_cached_tokens = s.n_planned;
    counts_.n_prompt_tokens += static_cast<uint64_t>(s.n_prompt());
    counts_.n_cached_tokens += static_cast<uint64_t>(s.n_planned);
    ++counts_.n_prefix_lookups;
    counts_.n_prefix_hits += s.n_planned > 0;
  }
  s.state = Sequence::State::kRunning;
  insert_sorted(running_, sequence, by_rank);
  erase(waiting_, s);
  return true;
}

// By value: what the caller holds may be an element of running_.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Scheduler::preempt(std::shared_ptr<Sequence> sequence) {
  publish(*sequence);
  give_back(*sequence);
  sequence->state = Sequence::State::kWaiting;
  ++sequence->n_preemptions;
  ++counts_.n_preemptions;
  erase(running_, *sequence);
  insert_sorted(waiting_, std::move(sequence), by_turn);
}

// Keys are there for the positions that were planned, and serve others where the tokens that ran there are known.
void Scheduler::publish(Sequence& sequence) {
  const int n_known = std::min(sequence.n_tokens(), sequence.n_planned);
  sequence.n_published = pages_.publish(sequence.pages, sequence.n_published,
                                        std::span(sequence.tokens).first(static_cast<size_t>(n_known)),
                                        sequence.request.cache_salt, sequence.last_step);
}

void Scheduler::give_back(Sequence& sequence) {
  pages_.release(sequence.pages, sequence.last_step);
  slots_.release({&sequence.slot, 1}, sequence.last_step);
  sequence.pages.clear();
  sequence.slot = -1;
  sequence.n_published = sequence.n_planned = 0;
}

void Scheduler::add_part(StepPlan& plan, const std::shared_ptr<Sequence>& sequence, int n_tokens) {
  StepBatch& batch = plan.batch;
  const int32_t first_row = batch.n_rows();
  add_rows(batch, *sequence, n_tokens);
  add_tokens(batch, *sequence, n_tokens);
  counts_.n_prefill_tokens +=
      static_cast<uint64_t>(std::clamp(sequence->n_known_at_start - sequence->n_planned, 0, n_tokens));
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
    if (position < sequence.n_tokens()) {
      batch.tokens.push_back(sequence.tokens[position]);
      batch.from_row.push_back(-1);
    } else {
      // Still on the device: drawn by the step before this one, as all earlier steps have come back.
      SPATE_CHECK(sequence.last_step == last_enqueued_ && n_tokens == 1, "request {}: token {} was never drawn",
                  sequence.id(), position);
      batch.tokens.push_back(0);
      batch.from_row.push_back(sequence.drawn_row);
    }
  }
}

// Rows for the sequence's next n_tokens, whose first will be the batch's next token. Rows of the prompt that were asked
// for before a preemption are not asked for again.
void Scheduler::add_rows(StepBatch& batch, Sequence& sequence, int n_tokens) const {
  const Request& request = sequence.request;
  const int n_prompt = sequence.n_prompt();
  const int end = sequence.n_planned + n_tokens;
  const auto add_row = [&](int position, RowKind kind, int32_t target) {
    batch.rows.push_back({.token_index = batch.n_tokens() + position - sequence.n_planned,
                          .slot = sequence.slot,
                          .kind = kind,
                          .target = target,
                          .n_logprobs = kind == RowKind::kHidden ? 0 : request.n_logprobs});
  };
  for (int& n = sequence.n_prompt_rows_planned; n < std::min(end, sequence.n_prompt_rows()); ++n) {
    if (request.prompt_logprobs)
      add_row(n, RowKind::kScore, request.prompt[n + 1]);
    else
      add_row(n, RowKind::kHidden, 0);
  }
  if (end < sequence.n_known_at_start) return;
  if (request.pooling == Pooling::kLast) add_row(n_prompt - 1, RowKind::kHidden, 0);
  if (sequence.n_samples_planned < sequence.max_tokens) {
    add_row(end - 1, RowKind::kSample, 0);
    ++sequence.n_samples_planned;
  }
}

void Scheduler::enqueued(const StepPlan& plan, StepId step) {
  last_enqueued_ = step;
  for (const StepPlan::Part& part : plan.parts) {
    part.sequence->last_step = step;
    part.sequence->drawn_row = part.first_row + part.n_rows - 1;
    publish(*part.sequence);
  }
}

void Scheduler::completed(const StepPlan& plan, StepId step, double seconds) {
  last_completed_ = step;
  pages_.completed(step);
  slots_.completed(step);
  times_.record(plan.n_decodes, plan.n_prompt_tokens(), seconds);
}

}  // namespace spate
