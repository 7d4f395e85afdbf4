#include "server/request_tracker.h"

#include <array>
#include <atomic>
#include <utility>
#include <vector>

namespace spate::server {

class RequestTracker::Tracked final : public Deliveries::Line,
                                      public std::enable_shared_from_this<RequestTracker::Tracked> {
 public:
  Tracked(RequestTracker& tracker, int n_choices, EngineTime received_at, OutputSink sink)
      : tracker_(tracker), n_choices_(n_choices), received_at_(received_at), sink_(std::move(sink)) {}
  ~Tracked() override {
    const std::lock_guard lock(tracker_.mutex_);
    tracker_.requests_.erase(this);
  }

  // On the engine's thread.
  void take(RequestId id, OutputDelta delta) {
    if (failed_) return;
    id_ = id;
    if (!delta.tokens.empty()) measure(delta);
    tracker_.deliveries_.post(shared_from_this(), std::move(delta));
  }

  void fail(const Error& error) {
    failed_ = true;
    for (int choice = 0; choice < n_choices_; ++choice)
      if (!ended_[static_cast<size_t>(choice)])
        sink_(id_, {.choice = choice, .finish = Finish{.reason = FinishReason::kError, .error = error}});
  }

  void set_id(RequestId id) { id_ = id; }

 private:
  void deliver(const OutputDelta& delta) override {
    if (failed_) return;
    if (delta.finish) ended_[static_cast<size_t>(delta.choice)] = true;
    sink_(id_, delta);
  }

  void measure(const OutputDelta& delta) {
    const EngineTime now = EngineClock::now();
    const auto seconds_since = [now](EngineTime time) { return std::chrono::duration<double>(now - time).count(); };
    EngineTime& last = last_token_[static_cast<size_t>(delta.choice)];
    if (last == EngineTime())
      tracker_.metrics_.add_time_to_first_token(seconds_since(received_at_));
    else
      tracker_.metrics_.add_gap(seconds_since(last), delta.tokens.size());
    last = now;
  }

  RequestTracker& tracker_;
  const int n_choices_;
  const EngineTime received_at_;
  const OutputSink sink_;
  std::array<EngineTime, kMaxChoices> last_token_ = {};  // of each choice; used by the engine's thread alone
  std::array<std::atomic<bool>, kMaxChoices> ended_ = {};
  std::atomic<bool> failed_ = false;
  std::atomic<RequestId> id_ = 0;
};

Result<RequestId> RequestTracker::submit(EngineThread& engine, Request request, EngineTime received_at,
                                         OutputSink sink) {
  const auto tracked = std::make_shared<Tracked>(*this, request.n_choices, received_at, std::move(sink));
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    requests_.insert(tracked.get());
  }
  Result<RequestId> id = engine.submit(
      std::move(request), [tracked](RequestId given, OutputDelta delta) { tracked->take(given, std::move(delta)); });
  if (id) tracked->set_id(*id);
  return id;
}

void RequestTracker::fail_all(const Error& error) {
  std::vector<std::shared_ptr<Tracked>> alive;
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    for (Tracked* each : requests_)
      if (std::shared_ptr<Tracked> request = each->weak_from_this().lock()) alive.push_back(std::move(request));
  }
  for (const auto& request : alive) request->fail(error);
}

}  // namespace spate::server
