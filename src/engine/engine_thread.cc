#include "engine/engine_thread.h"

#include <utility>

#include "base/check.h"

namespace spate {

EngineThread::EngineThread(Executor& executor, const Tokenizer* tokenizer, const EngineOptions& options,
                           const QueueLimits& limits)
    : limits_(limits),
      options_(options),
      pool_tokens_(int64_t{executor.limits().n_pages} * kPageTokens),
      engine_(executor, tokenizer, options) {
  SPATE_CHECK(limits.max_choices >= 1 && limits.max_tokens >= 1);
  engine_.update(stats_);
  progress_.since = options_.now();
  thread_ = std::thread([this] { run(); });
}

EngineThread::~EngineThread() {
  stop();
}

Result<RequestId> EngineThread::submit(Request request, OutputSink sink) {
  SPATE_TRY_VOID(engine_.check(request));
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt + request.max_tokens.value_or(0) > pool_tokens_)
    return Error::out_of_resources(
        fmt::format("{} prompt tokens and max_tokens {} are more than the {} tokens of the whole KV pool: ask for less",
                    n_prompt, *request.max_tokens, pool_tokens_));
  const std::lock_guard lock(mutex_);
  if (failure_) return *failure_;
  if (stopping_) return stopped_error();
  SPATE_TRY_VOID(check_room(request.n_choices, n_prompt * request.n_choices));
  n_inbox_choices_ += request.n_choices;
  n_inbox_tokens_ += n_prompt * request.n_choices;
  inbox_.submissions.push_back({++last_id_, std::move(request), std::move(sink)});
  if (!progress_.has_work) progress_ = {.has_work = true, .since = options_.now()};
  inbox_changed_.notify_one();
  return last_id_;
}

// Whether the queue takes so much more.
Result<void> EngineThread::check_room(int n_choices, int64_t n_tokens) const {
  const int n_waiting = n_inbox_choices_ + stats_.n_waiting - stats_.n_preempted;
  const int64_t n_waiting_tokens = n_inbox_tokens_ + stats_.n_waiting_tokens;
  if (n_waiting == 0) return {};
  if (n_waiting + n_choices > limits_.max_choices)
    return Error::busy(
        fmt::format("{} requests are waiting, and {} may: try again later", n_waiting, limits_.max_choices));
  if (n_waiting_tokens + n_tokens > limits_.max_tokens)
    return Error::busy(
        fmt::format("{} prompt tokens are waiting, and {} may, so there is no room for {} more: try "
                    "again later",
                    n_waiting_tokens, limits_.max_tokens, n_tokens));
  return {};
}

void EngineThread::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  inbox_.cancels.push_back(id);
  inbox_changed_.notify_one();
}

EngineStats EngineThread::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

EngineProgress EngineThread::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

std::optional<Error> EngineThread::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void EngineThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    inbox_changed_.notify_one();
  }
  const std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

Error EngineThread::stopped_error() {
  return Error::interrupted("the engine was stopped");
}

void EngineThread::run() {
  Inbox inbox;
  while (take_inbox(inbox)) {
    handle(inbox);
    engine_.step();
    publish_state(inbox, engine_.failure());
  }
  handle(inbox);
  const std::optional<Error> failure = engine_.failure();
  engine_.stop(stopped_error());
  publish_state(inbox, failure);
}

// Waits until there is something to do. False: to stop.
bool EngineThread::take_inbox(Inbox& inbox) {
  inbox.submissions.clear();
  inbox.cancels.clear();
  std::unique_lock lock(mutex_);
  if (!engine_.has_work())
    inbox_changed_.wait(lock, [&] { return stopping_ || !inbox_.submissions.empty() || !inbox_.cancels.empty(); });
  std::swap(inbox, inbox_);
  return !stopping_;
}

void EngineThread::handle(Inbox& inbox) {
  inbox.n_choices = 0;
  inbox.n_tokens = 0;
  for (Submission& submission : inbox.submissions) {
    const int n_choices = submission.request.n_choices;
    inbox.n_choices += n_choices;
    inbox.n_tokens += static_cast<int64_t>(submission.request.prompt.size()) * n_choices;
    const Result<RequestId> id = engine_.submit(submission.id, std::move(submission.request), submission.sink);
    if (id.ok()) continue;  // otherwise the executor has failed since submit()
    for (int choice = 0; choice < n_choices; ++choice)
      submission.sink(submission.id,
                      {.choice = choice, .finish = Finish{.reason = FinishReason::kError, .error = id.error()}});
  }
  for (const RequestId id : inbox.cancels) engine_.cancel(id);
}

// What others may ask for. The requests of the inbox are counted by the engine now.
void EngineThread::publish_state(const Inbox& handled, const std::optional<Error>& failure) {
  const std::lock_guard lock(mutex_);
  const uint64_t n_steps = stats_.n_steps;
  engine_.update(stats_);
  n_inbox_choices_ -= handled.n_choices;
  n_inbox_tokens_ -= handled.n_tokens;
  failure_ = failure;
  progress_.has_work = engine_.has_work() || !inbox_.submissions.empty();
  if (stats_.n_steps > n_steps) progress_.since = options_.now();
}

}  // namespace spate
