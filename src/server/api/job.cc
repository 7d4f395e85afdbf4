#include "server/api/job.h"

#include <exception>
#include <fmt/core.h>
#include <utility>

#include "base/log.h"

namespace spate::api {
namespace {

// What a client is told of a choice that did not end by itself.
ApiError error_of(const Finish& finish) {
  switch (finish.reason) {
    case FinishReason::kError:
      if (finish.error) return api_error(*finish.error);
      break;
    case FinishReason::kDeadline: {
      ApiError error = ApiError::unavailable("the request took longer than it may");
      error.status = 504;
      error.code = "timeout";
      error.retry_after_seconds = 0;
      return error;
    }
    case FinishReason::kCancelled:
      return ApiError::unavailable("the request was cancelled by the server");
    case FinishReason::kStop:
    case FinishReason::kLength:
      break;
  }
  return api_error(Error::backend("the engine ended the request without saying why"));
}

bool ended_well(const Finish& finish) {
  return finish.reason == FinishReason::kStop || finish.reason == FinishReason::kLength;
}

}  // namespace

void respond_error(http::Exchange& exchange, const ApiError& error) {
  http::Headers extra;
  if (error.retry_after_seconds > 0) extra.push_back({"Retry-After", std::to_string(error.retry_after_seconds)});
  exchange.respond(error.status, kJsonType, error_json(error), std::move(extra));
}

Job::Job(Serving& serving, std::shared_ptr<http::Exchange> exchange, Work work)
    : serving_(serving), exchange_(std::move(exchange)), work_(std::move(work)) {
  for (size_t prompt = 0; prompt < work_.requests.size(); ++prompt) {
    waiting_.push_back(prompt);
    n_open_ += work_.requests[prompt].n_choices;
  }
}

// The exchange holds the function, which holds this, which holds the exchange: it lets go when the answer is complete.
void Job::start(DelayedCalls& patience, DelayedCalls& retries) {
  retries_ = &retries;
  exchange_->on_close([self = shared_from_this()] { self->client_gone(); });
  if (work_.stream)
    patience.add([weak = weak_from_this()] {
      const std::shared_ptr<Job> self = weak.lock();
      if (!self) return;
      const std::lock_guard lock(self->mutex_);
      if (!self->over_) self->begin_stream();
    });
  submit_more();
}

void Job::submit_more() {
  while (const std::optional<size_t> prompt = next_prompt()) {
    const auto sink = [self = shared_from_this(), at = *prompt](RequestId, const OutputDelta& delta) {
      self->take(at, delta);
    };
    if (!submitted(*prompt, serving_.submit(work_.requests[*prompt], exchange_->request().received_at, sink))) return;
  }
}

std::optional<size_t> Job::next_prompt() {
  const std::lock_guard lock(mutex_);
  if (over_ || waiting_.empty()) return std::nullopt;
  const size_t prompt = waiting_.front();
  const int n_choices = work_.requests[prompt].n_choices;
  if (n_in_engine_ > 0 && n_in_engine_ + n_choices > kMaxChoicesInEngine) return std::nullopt;
  waiting_.pop_front();
  n_in_engine_ += n_choices;
  return prompt;
}

// The engine may call take() before submit() returns, and the client may go: so whether the request is still wanted is
// asked once its id is known. A queue that is full is none of the client's business once one of its prompts was taken:
// the next one that ends tries again, or else a timer does. False: not now.
bool Job::submitted(size_t prompt, const Result<RequestId>& id) {
  std::vector<RequestId> unwanted;
  {
    const std::lock_guard lock(mutex_);
    if (!id) n_in_engine_ -= work_.requests[prompt].n_choices;
    if (id && over_) {
      unwanted = {*id};
    } else if (id) {
      ids_.push_back(*id);
      work_.requests[prompt] = {};  // streams last, and prompts are long
    } else if (!over_ && id.error().code == ErrorCode::kBusy && !ids_.empty()) {
      waiting_.push_front(prompt);
      if (n_in_engine_ == 0) try_again_later();
    } else if (!over_) {
      unwanted = fail(api_error(id.error()));
    }
  }
  cancel_all(unwanted);
  return id.ok();
}

void Job::try_again_later() {
  retries_->add([weak = weak_from_this()] {
    if (const std::shared_ptr<Job> self = weak.lock()) self->submit_more();
  });
}

// On a thread that other requests' answers come from too: what goes wrong with one must not get out.
void Job::take(size_t prompt, const OutputDelta& delta) {
  try {
    hand_over(prompt, delta);
  } catch (const std::exception&) {  // its text may quote the request
    log::error("request {}: an answer threw an exception", exchange_->request().id);
    give_up();
  }
}

void Job::give_up() {
  std::vector<RequestId> unwanted;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    unwanted = fail(api_error(Error::backend("the server failed to write this answer; see its log")));
  }
  cancel_all(unwanted);
}

void Job::hand_over(size_t prompt, const OutputDelta& delta) {
  std::vector<RequestId> unwanted;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    if (delta.finish && !ended_well(*delta.finish)) {
      unwanted = fail(error_of(*delta.finish));
    } else {
      Events events;
      work_.answer->add(prompt, delta, events);
      if (delta.finish) {
        --n_in_engine_;
        if (--n_open_ == 0) work_.answer->end(events);
      }
      send(events);
      if (n_open_ == 0) complete();
    }
  }
  cancel_all(unwanted);
  if (delta.finish) submit_more();
}

void Job::client_gone() {
  std::vector<RequestId> unwanted;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    unwanted = std::exchange(ids_, {});
  }
  cancel_all(unwanted);
}

void Job::begin_stream() {
  if (!std::exchange(begun_, true)) exchange_->begin_events();
}

void Job::send(const Events& events) {
  if (events.empty()) return;
  begin_stream();
  for (const std::string& event : events) exchange_->event(event);
}

void Job::annotate() {
  const Usage& usage = work_.answer->usage();
  exchange_->annotate("prompt_tokens", usage.prompt_tokens());
  exchange_->annotate("cached_tokens", usage.cached_tokens());
  exchange_->annotate("completion_tokens", usage.completion_tokens());
  exchange_->annotate("queue_s", usage.queue_seconds());
  exchange_->annotate("prefill_s", usage.prefill_seconds());
  exchange_->annotate("decode_s", usage.decode_seconds());
}

void Job::complete() {
  annotate();
  if (work_.stream) {
    begin_stream();
    exchange_->event("[DONE]");
    exchange_->end_events();
  } else {
    exchange_->respond(200, kJsonType, work_.answer->body());
  }
  over_ = true;  // now: had the body thrown, the error would still have to be sent
}

std::vector<RequestId> Job::fail(const ApiError& error) {
  over_ = true;
  exchange_->annotate("error", error.code.value_or(error.type));
  if (begun_) {
    exchange_->event(error_json(error));
    exchange_->end_events();
  } else {
    respond_error(*exchange_, error);
  }
  return std::exchange(ids_, {});
}

void Job::cancel_all(const std::vector<RequestId>& ids) {
  for (const RequestId id : ids) serving_.cancel(id);
}

}  // namespace spate::api
