#include "load/load_run.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "load/answer_event.h"
#include "load/sse_parser.h"

namespace spate::load {

namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kRetryAfter = std::chrono::milliseconds(100);  // of a client whose server cannot be reached
constexpr size_t kMaxErrorBody = 4096;
// Streams of random numbers beside those of the workload.
constexpr uint64_t kArrivalStream = uint64_t{1} << 62, kSamplingStream = uint64_t{2} << 62;

// Reads one answer and fills in its record.
class AnswerReader final : public ResponseReader {
 public:
  using Done = std::function<void(RequestRecord record, std::vector<float> gaps)>;
  AnswerReader(Clock::time_point begin, double due_s, Done done) : begin_(begin), done_(std::move(done)) {
    record_.due_s = due_s;
  }

  void on_head(int status) override { status_ = status; }

  bool on_body(std::string_view piece) override {
    if (status_ != 200) {
      error_body_ += piece.substr(0, kMaxErrorBody - error_body_.size());
      return error_body_.size() < kMaxErrorBody;
    }
    now_s_ = now();
    const Result<void> fed = parser_.feed(piece, [this](std::string_view data) { return take_event(data); });
    if (!fed) fail("bad event", fed.error().message);
    return !is_done_ && record_.failure.empty();
  }

  void on_end(std::optional<HttpFailure> failure, std::string_view what) override {
    record_.end_s = now();
    if (record_.failure.empty()) judge(failure, what);
    if (record_.output_tokens == 0) record_.output_tokens = n_events_;
    done_(std::move(record_), std::move(gaps_));
  }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  void fail(std::string_view kind, std::string_view detail) {
    record_.failure = kind;
    record_.detail = detail;
  }

  bool take_event(std::string_view data) {
    const Result<AnswerEvent> event = parse_answer_event(data);
    if (!event || event->error) {
      fail(event ? "error event" : "bad event", event ? *event->error : event.error().message);
      return false;
    }
    if (event->prompt_tokens) record_.prompt_tokens = *event->prompt_tokens;
    if (event->completion_tokens) record_.output_tokens = *event->completion_tokens;
    if (event->has_text) {
      if (n_events_++ == 0)
        record_.first_s = now_s_;
      else
        gaps_.push_back(static_cast<float>(now_s_ - record_.last_s));
      record_.last_s = now_s_;
    }
    is_done_ = event->is_done;
    return !is_done_;
  }

  void judge(std::optional<HttpFailure> failure, std::string_view what) {
    if (failure == HttpFailure::kConnect) return fail("connect", what);
    if (failure == HttpFailure::kTimeout) return fail("timeout", what);
    if (status_ != 0 && status_ != 200) return fail(fmt::format("http {}", status_), error_text(error_body_));
    if (failure) return fail("closed early", what);
    if (!is_done_) return fail("closed early", "the stream ended without [DONE]");
    if (n_events_ == 0) fail("no token", "the stream had no text");
  }

  const Clock::time_point begin_;
  const Done done_;
  SseParser parser_;
  std::string error_body_;
  RequestRecord record_;
  std::vector<float> gaps_;
  double now_s_ = 0;  // when the piece that is being read came
  int status_ = 0, n_events_ = 0;
  bool is_done_ = false;
};

class Level : public std::enable_shared_from_this<Level> {
 public:
  Level(HttpClient& client, const std::string& target, const Workload& workload, const LevelOptions& options,
        const OnLevelProgress& progress)
      : client_(client),
        target_(target),
        workload_(workload),
        options_(options),
        progress_(progress),
        arrivals_(workload.options().seed, kArrivalStream + static_cast<uint64_t>(options.index)),
        sampling_(workload.options().seed, kSamplingStream + static_cast<uint64_t>(options.index)) {
    if (options.arrivals == Arrivals::kTrace) {
      const auto n_entries = static_cast<int64_t>(workload.options().trace.size());
      n_to_begin_ = options.n_requests > 0 ? std::min(options.n_requests, n_entries) : n_entries;
    } else {
      n_to_begin_ = options.n_requests > 0 ? options.n_requests : std::numeric_limits<int64_t>::max();
    }
  }

  Result<LevelResult> run() {
    begin_ = Clock::now();
    if (options_.arrivals == Arrivals::kClosed)
      for (int i = 0; i < options_.clients && may_begin(); ++i) send(elapsed());
    else
      wait_for_arrival();
    tick();
    if (!interrupted_ && !is_over()) client_.run();
    if (interrupted_) return Error::interrupted("stopped before the load had ended");
    for (const RequestRecord& record : result_.requests) result_.wall_s = std::max(result_.wall_s, record.end_s);
    return std::move(result_);
  }

 private:
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  Clock::time_point time_at(double seconds) const {
    return begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  bool may_begin() const { return n_begun_ < n_to_begin_ && (options_.seconds <= 0 || elapsed() < options_.seconds); }

  // What the client calls later may be called after this level: then it is nothing.
  std::function<void()> later(void (Level::*fn)()) {
    return [weak = weak_from_this(), fn] {
      if (const std::shared_ptr<Level> self = weak.lock()) (self.get()->*fn)();
    };
  }

  // Due times depend on the seed alone: a server that stalls finds all that came meanwhile, as it would in earnest.
  void wait_for_arrival() {
    arrivals_over_ = n_begun_ >= n_to_begin_;
    if (arrivals_over_) return end_if_over();
    next_due_s_ = options_.arrivals == Arrivals::kTrace ? workload_.options().trace[static_cast<size_t>(n_begun_)].at_s
                                                        : next_due_s_ + arrivals_.exponential() / options_.rate;
    if (options_.seconds > 0 && next_due_s_ >= options_.seconds) {
      arrivals_over_ = true;
      return end_if_over();
    }
    client_.at(time_at(next_due_s_), later(&Level::arrive));
  }

  void arrive() {
    send(next_due_s_);
    wait_for_arrival();
  }

  void send(double due_s) {
    const Job job = workload_.job(options_.index, n_begun_++);
    result_.most_in_flight = std::max(result_.most_in_flight, ++n_in_flight_);
    HttpPost post{
        .target = target_,
        .body = request_body(job, options_.request, static_cast<uint32_t>(sampling_.below(uint64_t{1} << 31))),
        .headers = options_.headers,
        .timeout = std::chrono::duration<double>(options_.timeout_s)};
    const auto done = [weak = weak_from_this()](RequestRecord record, const std::vector<float>& gaps) {
      if (const std::shared_ptr<Level> self = weak.lock()) self->ended(std::move(record), gaps);
    };
    client_.post(std::move(post), std::make_shared<AnswerReader>(begin_, due_s, done));
  }

  void ended(RequestRecord record, const std::vector<float>& gaps) {
    --n_in_flight_;
    const bool unreachable = record.failure == "connect";
    n_failed_ += record.failure.empty() ? 0 : 1;
    if (record.failure.empty()) result_.gaps_s.insert(result_.gaps_s.end(), gaps.begin(), gaps.end());
    result_.requests.push_back(std::move(record));
    if (options_.arrivals == Arrivals::kClosed) {
      if (unreachable && may_begin()) {
        ++n_resting_;
        client_.at(Clock::now() + kRetryAfter, later(&Level::try_again));
      } else if (may_begin()) {
        send(elapsed());
      }
    }
    end_if_over();
  }

  void try_again() {
    --n_resting_;
    if (may_begin()) send(elapsed());
    end_if_over();
  }

  bool is_over() const {
    const bool more_to_come = options_.arrivals == Arrivals::kClosed ? n_resting_ > 0 : !arrivals_over_;
    return n_in_flight_ == 0 && !more_to_come;
  }
  void end_if_over() {
    if (is_over()) client_.stop();
  }

  double fraction() const {
    const double by_time = options_.seconds > 0 ? elapsed() / options_.seconds : 0;
    const bool counted = n_to_begin_ < std::numeric_limits<int64_t>::max();
    const double by_count =
        counted ? static_cast<double>(result_.requests.size()) / static_cast<double>(n_to_begin_) : 0;
    return std::min(1.0, std::max(by_time, by_count));
  }

  void tick() {
    const bool goes_on = progress_({.fraction = fraction(),
                                    .n_ended = static_cast<int64_t>(result_.requests.size()),
                                    .n_failed = n_failed_,
                                    .n_in_flight = n_in_flight_});
    if (goes_on) return client_.at(Clock::now() + kTick, later(&Level::tick));
    interrupted_ = true;
    client_.stop();
  }

  HttpClient& client_;
  const std::string target_;
  const Workload& workload_;
  const LevelOptions& options_;
  const OnLevelProgress& progress_;
  Random arrivals_, sampling_;
  Clock::time_point begin_;
  LevelResult result_;
  int64_t n_to_begin_ = 0, n_begun_ = 0, n_failed_ = 0;
  int n_in_flight_ = 0, n_resting_ = 0;
  double next_due_s_ = 0;
  bool arrivals_over_ = false, interrupted_ = false;
};

}  // namespace

Result<LevelResult> run_level(HttpClient& client, const std::string& target, const Workload& workload,
                              const LevelOptions& options, const OnLevelProgress& progress) {
  SPATE_CHECK(options.n_requests > 0 || options.seconds > 0 || options.arrivals == Arrivals::kTrace,
              "a level without an end");
  return std::make_shared<Level>(client, target, workload, options, progress)->run();
}

}  // namespace spate::load
