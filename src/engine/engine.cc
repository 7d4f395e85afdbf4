#include "engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "engine/request_check.h"

namespace spate {
namespace {

int step_budget(const EngineOptions& options, const ExecutorLimits& limits) {
  return options.max_step_tokens > 0 ? std::min(options.max_step_tokens, limits.max_step_tokens)
                                     : limits.max_step_tokens;
}

bool is_empty(const OutputDelta& delta) {
  return delta.prompt.empty() && delta.tokens.empty() && delta.text.empty() && !delta.finish;
}

double seconds_between(EngineTime from, EngineTime to) {
  return std::chrono::duration<double>(to - from).count();
}

void add_hidden(Sequence& sequence, const std::vector<float>& hidden) {
  sequence.hidden.resize(hidden.size());
  for (size_t i = 0; i < hidden.size(); ++i) sequence.hidden[i] += hidden[i];
}

std::vector<float> pooled(const Sequence& sequence) {
  const double n = sequence.request.pooling == Pooling::kMean ? sequence.n_prompt() : 1;
  std::vector<float> embedding;
  for (const double sum : sequence.hidden) embedding.push_back(static_cast<float>(sum / n));
  return embedding;
}

// Choice i of a request, as a request of its own.
Request choice_of(const Request& request, int i) {
  Request choice = request;
  choice.sampling.seed += static_cast<uint64_t>(i);
  choice.prompt_logprobs = request.prompt_logprobs && i == 0;
  return choice;
}

}  // namespace

Engine::Engine(Executor& executor, const Tokenizer* tokenizer, const EngineOptions& options)
    : executor_(executor),
      tokenizer_(tokenizer),
      options_(options),
      context_tokens_(static_cast<int>(
          std::min<int64_t>(options.context_tokens, int64_t{executor.limits().n_pages} * kPageTokens))),
      scheduler_(executor.limits(), {.max_step_tokens = step_budget(options, executor.limits()),
                                     .max_decode_stretch = options.max_decode_stretch,
                                     .kv_reuse = options.kv_reuse}) {
  SPATE_CHECK(options.vocab_size > 0 && options.context_tokens > 0);
  SPATE_CHECK(options.max_steps_in_flight >= 1 && options.max_steps_in_flight <= kMaxStepsInFlight);
}

Engine::~Engine() {
  while (n_in_flight_ > 0) (void)wait_for_oldest();
}

Result<void> Engine::check(const Request& request) const {
  return check_request(
      request,
      {.vocab_size = options_.vocab_size, .context_tokens = context_tokens_, .has_text = tokenizer_ != nullptr});
}

Result<RequestId> Engine::submit(RequestId id, Request request, OutputSink sink) {
  SPATE_CHECK(id > last_id_, "request {} after request {}", id, last_id_);
  if (failure_) return *failure_;
  SPATE_TRY_VOID(check(request));
  last_id_ = id;
  const EngineTime now = options_.now();
  const int n_prompt = static_cast<int>(request.prompt.size()), room = context_tokens_ - n_prompt;
  const auto shared_sink = std::make_shared<const OutputSink>(std::move(sink));
  Choices& choices = requests_[id];
  for (int i = 0; i < request.n_choices; ++i) {
    auto sequence = std::make_shared<Sequence>(
        Sequence{.request = choice_of(request, i),
                 .rank = {.due = now - request.priority * options_.priority_head_start, .id = id, .choice = i},
                 .sink = shared_sink,
                 .text = OutputText(tokenizer_, request.stop_strings),
                 .max_tokens = std::min(request.max_tokens.value_or(room), room),
                 .tokens = request.prompt,
                 .submitted = now});
    if (i > 0 && n_prompt > kPageTokens && options_.kv_reuse != KvReuse::kNone) sequence->leader = choices.front();
    scheduler_.add(sequence);
    choices.push_back(std::move(sequence));
  }
  if (request.deadline) deadlines_.emplace(*request.deadline, id);
  return id;
}

bool Engine::cancel(RequestId id) {
  if (!requests_.contains(id)) return false;
  end_request(id, {.reason = FinishReason::kCancelled});
  return true;
}

void Engine::expire() {
  const EngineTime now = deadlines_.empty() ? EngineTime() : options_.now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now)
    end_request(deadlines_.begin()->second, {.reason = FinishReason::kDeadline});
}

// What every choice of a request that has not ended has come to.
void Engine::end_request(RequestId id, const Finish& finish) {
  const Choices choices = requests_.at(id);
  for (const std::shared_ptr<Sequence>& sequence : choices) {
    if (sequence->state == Sequence::State::kFinished) continue;  // a sink called here cancelled the request
    OutputDelta delta;
    delta.text = sequence->text.finish();
    delta.finish = finish;
    this->finish(sequence, std::move(delta));
  }
}

void Engine::run_until_idle() {
  while (step()) {
  }
}

bool Engine::step() {
  SPATE_CHECK(!stepping_, "a sink must not run the engine");
  stepping_ = true;
  expire();
  const bool enqueued = enqueue_next();
  SPATE_CHECK(enqueued || n_in_flight_ > 0 || !scheduler_.has_work(), "{} requests wait and nothing can run",
              scheduler_.waiting().size());
  if (n_in_flight_ == options_.max_steps_in_flight || (!enqueued && n_in_flight_ > 0)) complete_oldest();
  stepping_ = false;
  return has_work();
}

bool Engine::enqueue_next() {
  Flight& flight = flights_[(oldest_flight_ + n_in_flight_) % kMaxStepsInFlight];
  if (!scheduler_.plan(flight.plan)) return false;
  flight.enqueued = options_.now();
  flight.step = executor_.enqueue(flight.plan.batch);
  scheduler_.enqueued(flight.plan, flight.step);
  ++n_in_flight_;
  for (const StepPlan::Part& part : flight.plan.parts) {
    Sequence& sequence = *part.sequence;
    if (sequence.admitted != EngineTime()) continue;
    sequence.admitted = flight.enqueued;
    stats_.queue_seconds.add(seconds_between(sequence.submitted, sequence.admitted));
  }
  return true;
}

// A step's time counts from when the executor was free for it.
Result<StepOutput> Engine::wait_for_oldest() {
  Flight& flight = flights_[oldest_flight_];
  Result<StepOutput> output = executor_.wait(flight.step);
  const EngineTime now = options_.now();
  const double seconds = seconds_between(std::max(flight.enqueued, last_completed_), now);
  last_completed_ = now;
  scheduler_.completed(flight.plan, flight.step, seconds);
  oldest_flight_ = (oldest_flight_ + 1) % kMaxStepsInFlight;
  --n_in_flight_;
  ++stats_.n_steps;
  stats_.step_seconds.add(seconds);
  stats_.step_sequences.add(flight.plan.batch.n_seqs());
  stats_.step_tokens.add(flight.plan.batch.n_tokens());
  return output;
}

void Engine::complete_oldest() {
  Flight& flight = flights_[oldest_flight_];
  Result<StepOutput> output = wait_for_oldest();
  if (!output.ok()) {
    flight.plan.parts.clear();
    stop(output.error());
    return;
  }
  SPATE_CHECK(output->rows.size() == flight.plan.batch.rows.size(), "step {}: {} rows asked, {} given", flight.step,
              flight.plan.batch.rows.size(), output->rows.size());
  for (const StepPlan::Part& part : flight.plan.parts) deliver(part, flight.plan, *output);
  flight.plan.parts.clear();
}

// A sequence that ended, or was cancelled, since the step was planned drops what the step gives. One that was preempted
// takes it: its draw stands, whatever becomes of its pages.
void Engine::deliver(const StepPlan::Part& part, const StepPlan& plan, StepOutput& output) {
  Sequence& sequence = *part.sequence;
  if (sequence.state == Sequence::State::kFinished) return;
  OutputDelta delta;
  for (int32_t r = part.first_row; r < part.first_row + part.n_rows; ++r) {
    const Row& row = plan.batch.rows[r];
    RowOutput& result = output.rows[r];
    if (row.kind == RowKind::kScore) {
      delta.prompt.push_back({row.target, result.logprob, result.token, std::move(result.top)});
    } else if (row.kind == RowKind::kHidden) {
      add_hidden(sequence, result.hidden);
    } else {
      delta.finish = accept(sequence, result, delta);
    }
  }
  const bool prompt_done = part.kv_len >= sequence.n_prompt();
  if (!delta.finish && prompt_done && sequence.n_generated() == sequence.max_tokens) {
    delta.text += sequence.text.finish();
    delta.embedding = pooled(sequence);
    delta.finish = Finish{.reason = FinishReason::kLength};
  }
  if (delta.finish) {
    finish(part.sequence, std::move(delta));
  } else if (!is_empty(delta)) {
    delta.choice = sequence.rank.choice;
    (*sequence.sink)(sequence.id(), std::move(delta));
  }
}

// Takes in a token that was drawn; what it finished, if it did.
std::optional<Finish> Engine::accept(Sequence& sequence, RowOutput& row, OutputDelta& delta) {
  if (sequence.n_generated() == 0) sequence.first_token = last_completed_;
  ++stats_.n_generated_tokens;
  sequence.tokens.push_back(row.token);
  delta.tokens.push_back({row.token, row.logprob, std::move(row.top)});
  if (is_end_token(sequence, row.token)) {
    delta.text += sequence.text.finish();
    return Finish{.reason = FinishReason::kStop, .end_token = row.token};
  }
  delta.text += sequence.text.push(row.token);
  if (!sequence.text.stop_string()) return std::nullopt;
  return Finish{.reason = FinishReason::kStop, .stop_string = sequence.text.stop_string()};
}

bool Engine::is_end_token(const Sequence& sequence, int32_t token) const {
  const std::vector<int32_t>& stop_tokens = sequence.request.stop_tokens;
  if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) return true;
  return tokenizer_ != nullptr && !sequence.request.ignore_eos && tokenizer_->vocab().ends_generation(token);
}

// Everything is in its final state before the sink is told, so that it may submit and cancel. The pointer by value: the
// caller may hold no more than requests_ does.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Engine::finish(std::shared_ptr<Sequence> sequence, OutputDelta delta) {
  scheduler_.remove(*sequence);
  const RequestId id = sequence->id();
  Choices& choices = requests_.at(id);
  std::erase(choices, sequence);
  if (choices.empty()) {
    requests_.erase(id);
    if (sequence->request.deadline) deadlines_.erase({*sequence->request.deadline, id});
  }
  delta.choice = sequence->rank.choice;
  delta.finish->cost = cost_of(*sequence);
  ++stats_.n_finished[static_cast<size_t>(delta.finish->reason)];
  (*sequence->sink)(id, std::move(delta));
}

RequestCost Engine::cost_of(const Sequence& sequence) const {
  const EngineTime now = options_.now();
  const EngineTime admitted = sequence.admitted == EngineTime() ? now : sequence.admitted;
  const EngineTime first_token = sequence.n_generated() == 0 ? now : sequence.first_token;
  return {.n_prompt_tokens = sequence.n_prompt(),
          .n_cached_tokens = sequence.n_cached_tokens,
          .n_generated_tokens = sequence.n_generated(),
          .n_preemptions = sequence.n_preemptions,
          .queue_seconds = seconds_between(sequence.submitted, admitted),
          .prefill_seconds = seconds_between(admitted, first_token),
          .decode_seconds = seconds_between(first_token, now)};
}

void Engine::stop(const Error& error) {
  if (!failure_) failure_ = error;
  while (n_in_flight_ > 0) {
    Flight& flight = flights_[oldest_flight_];
    (void)wait_for_oldest();
    flight.plan.parts.clear();
  }
  while (!requests_.empty()) end_request(requests_.begin()->first, {.reason = FinishReason::kError, .error = error});
}

void Engine::update(EngineStats& stats) const {
  stats = stats_;
  stats.n_running = static_cast<int>(scheduler_.running().size());
  stats.n_waiting = static_cast<int>(scheduler_.waiting().size());
  stats.n_preempted = scheduler_.n_preempted();
  stats.n_waiting_tokens = 0;
  for (const auto& sequence : scheduler_.waiting())
    if (sequence->n_preemptions == 0) stats.n_waiting_tokens += sequence->n_prompt();
  const KvPages& pages = scheduler_.pages();
  stats.n_pages = pages.size();
  stats.n_pages_used = pages.n_held() + pages.n_pending();
  stats.n_pages_cached = pages.n_cached();
  const SchedulerCounts& counts = scheduler_.counts();
  stats.n_prompt_tokens = counts.n_prompt_tokens;
  stats.n_cached_tokens = counts.n_cached_tokens;
  stats.n_prefill_tokens = counts.n_prefill_tokens;
  stats.n_preemptions = counts.n_preemptions;
  stats.n_prefix_lookups = counts.n_prefix_lookups;
  stats.n_prefix_hits = counts.n_prefix_hits;
}

}  // namespace spate
