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

}  // namespace

Engine::Engine(Executor& executor, const Tokenizer* tokenizer, const EngineOptions& options)
    : executor_(executor),
      tokenizer_(tokenizer),
      options_(options),
      context_tokens_(static_cast<int>(
          std::min<int64_t>(options.context_tokens, int64_t{executor.limits().n_pages} * kPageTokens))),
      scheduler_(executor.limits(), step_budget(options, executor.limits()), options.retain_last) {
  SPATE_CHECK(options.vocab_size > 0 && options.context_tokens > 0);
  SPATE_CHECK(options.max_steps_in_flight >= 1 && options.max_steps_in_flight <= kMaxStepsInFlight);
}

Engine::~Engine() {
  drain();
}

Result<RequestId> Engine::submit(Request request, OutputSink sink) {
  if (failure_) return *failure_;
  SPATE_TRY_VOID(check_request(
      request,
      {.vocab_size = options_.vocab_size, .context_tokens = context_tokens_, .has_text = tokenizer_ != nullptr}));
  const int room = context_tokens_ - static_cast<int>(request.prompt.size());
  const int max_tokens = std::min(request.max_tokens.value_or(room), room);
  OutputText text(tokenizer_, request.stop_strings);
  std::vector<int32_t> tokens = request.prompt;
  auto sequence = std::make_shared<Sequence>(Sequence{.id = ++last_id_,
                                                      .request = std::move(request),
                                                      .sink = std::move(sink),
                                                      .text = std::move(text),
                                                      .max_tokens = max_tokens,
                                                      .tokens = std::move(tokens)});
  scheduler_.add(sequence);
  sequences_.emplace(last_id_, std::move(sequence));
  return last_id_;
}

bool Engine::cancel(RequestId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return false;
  OutputDelta delta;
  delta.text = found->second->text.finish();
  delta.finish = Finish{.reason = FinishReason::kCancelled};
  finish(found->second, std::move(delta));
  return true;
}

void Engine::run_until_idle() {
  while (step()) {
  }
}

bool Engine::step() {
  SPATE_CHECK(!stepping_, "a sink must not run the engine");
  stepping_ = true;
  const bool enqueued = enqueue_next();
  SPATE_CHECK(enqueued || n_in_flight_ > 0 || !scheduler_.has_work(), "{} requests wait and nothing can run",
              scheduler_.waiting().size());
  if (n_in_flight_ == options_.max_steps_in_flight || (!enqueued && n_in_flight_ > 0)) complete_oldest();
  stepping_ = false;
  return n_in_flight_ > 0 || scheduler_.has_work();
}

bool Engine::enqueue_next() {
  Flight& flight = flights_[(oldest_flight_ + n_in_flight_) % kMaxStepsInFlight];
  if (!scheduler_.plan(flight.plan)) return false;
  flight.step = executor_.enqueue(flight.plan.batch);
  scheduler_.enqueued(flight.plan, flight.step);
  ++n_in_flight_;
  return true;
}

void Engine::complete_oldest() {
  Flight& flight = flights_[oldest_flight_];
  Result<StepOutput> output = executor_.wait(flight.step);
  oldest_flight_ = (oldest_flight_ + 1) % kMaxStepsInFlight;
  --n_in_flight_;
  scheduler_.completed(flight.step);
  if (!output.ok()) {
    fail_all(output.error());
    return;
  }
  SPATE_CHECK(output->rows.size() == flight.plan.batch.rows.size(), "step {}: {} rows asked, {} given", flight.step,
              flight.plan.batch.rows.size(), output->rows.size());
  for (const StepPlan::Part& part : flight.plan.parts) deliver(part, flight.plan, *output);
  flight.plan.parts.clear();
}

// A sequence that ended, or was cancelled, since the step was planned drops what the step gives.
void Engine::deliver(const StepPlan::Part& part, const StepPlan& plan, StepOutput& output) {
  Sequence& sequence = *part.sequence;
  if (sequence.state == Sequence::State::kFinished) return;
  OutputDelta delta;
  for (int32_t r = part.first_row; r < part.first_row + part.n_rows; ++r) {
    const Row& row = plan.batch.rows[r];
    RowOutput& result = output.rows[r];
    if (row.kind == RowKind::kScore) {
      delta.prompt.push_back({row.target, result.logprob, result.token, std::move(result.top)});
    } else {
      delta.finish = accept(sequence, result, delta);
    }
  }
  const bool prompt_done = part.kv_len >= sequence.n_prompt();
  if (!delta.finish && prompt_done && sequence.n_generated() == sequence.max_tokens) {
    delta.text += sequence.text.finish();
    delta.finish = Finish{.reason = FinishReason::kLength};
  }
  if (delta.finish) {
    finish(part.sequence, std::move(delta));
  } else if (!is_empty(delta)) {
    sequence.sink(sequence.id, delta);
  }
}

// Takes in a token that was drawn; what it finished, if it did.
std::optional<Finish> Engine::accept(Sequence& sequence, RowOutput& row, OutputDelta& delta) const {
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

// Everything is in its final state before the sink is told, so that it may submit and cancel. By value: the caller's
// pointer may live in a container that this changes.
// By value: the caller may hold no more than the map does.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Engine::finish(std::shared_ptr<Sequence> sequence, const OutputDelta& delta) {
  scheduler_.remove(*sequence);
  sequences_.erase(sequence->id);
  sequence->sink(sequence->id, delta);
}

void Engine::fail_all(const Error& error) {
  failure_ = error;
  drain();
  std::vector<std::shared_ptr<Sequence>> unfinished;
  for (const auto& [id, sequence] : sequences_) unfinished.push_back(sequence);
  std::sort(unfinished.begin(), unfinished.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  for (const auto& sequence : unfinished) {
    if (sequence->state == Sequence::State::kFinished) continue;  // cancelled by a sink called here
    OutputDelta delta;
    delta.text = sequence->text.finish();
    delta.finish = Finish{.reason = FinishReason::kError, .error = error};
    finish(sequence, std::move(delta));
  }
}

void Engine::drain() {
  while (n_in_flight_ > 0) {
    Flight& flight = flights_[oldest_flight_];
    (void)executor_.wait(flight.step);
    scheduler_.completed(flight.step);
    flight.plan.parts.clear();
    oldest_flight_ = (oldest_flight_ + 1) % kMaxStepsInFlight;
    --n_in_flight_;
  }
}

}  // namespace spate
