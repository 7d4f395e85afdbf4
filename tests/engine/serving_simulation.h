// Serving as clients see it, on a device that exists as a table of step times: what a policy costs before a GPU says
// so. The engine is the real one; time passes as the device, the host and the clients spend it, with noise by a fixed
// seed.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace spate::testing {

// What a step is made of, as far as its time goes.
struct StepWork {
  int n_tokens = 0, n_decodes = 0;
  double decode_context = 0;  // tokens that decodes attend to, all together
  double prompt_pairs = 0;    // of a prompt's token with one that it attends to

  explicit StepWork(const StepBatch& batch) : n_tokens(batch.n_tokens()) {
    for (int s = 0; s < batch.n_seqs(); ++s) {
      const int n = batch.q_start[s + 1] - batch.q_start[s];
      if (n == 1) {
        ++n_decodes;
        decode_context += batch.kv_len[s];
      } else {
        prompt_pairs += static_cast<double>(n) * (batch.kv_len[s] - n / 2);
      }
    }
  }
};
using StepSeconds = std::function<double(const StepWork&)>;

// (tokens, seconds), ascending.
using TimeTable = std::vector<std::pair<double, double>>;

// On straight lines between points, and on beyond the last.
inline double on_lines(const TimeTable& table, double n) {
  auto above = std::find_if(table.begin(), table.end(), [n](const auto& point) { return point.first >= n; });
  if (above == table.begin()) return above->second;
  if (above == table.end()) --above;
  const auto& [from, seconds] = *(above - 1);
  return seconds + (above->second - seconds) * (n - from) / (above->first - from);
}

// That of the first point with at least as many.
inline double on_stairs(const TimeTable& table, double n) {
  const auto at = std::find_if(table.begin(), table.end(), [n](const auto& point) { return point.first >= n; });
  return at == table.end() ? on_lines(table, n) : at->second;
}

// An 8B model in Q4_K_M on an H200, commit 147f068 (docs/performance.md). Steps of decodes: `spate bench` with 512
// tokens of context, less what attention takes in them by CUPTI's timeline, by the sizes that have graphs. Steps with
// prompts: matmul_wide.cuh takes tokens in tiles of 128, of which each reads and decodes all weights again; the tiles'
// relation is that of plan_wide's cycles, their length from prefill of 512 and 2,048 tokens and from the commonest long
// gaps with 8, 16 and 64 clients (5.65, 8.46, 12.75 ms). Serving so simulated had the shares of the ideal that were
// measured to two points with 1 to 64 clients, and gaps and times to the first token to a tenth, the slowest of these
// to a third; on straight lines between measured lengths it had 86 % with 16 clients where 79 were measured.
inline double h200_seconds(const StepWork& work) {
  static const TimeTable attention{{0, 0}, {1, 0.20}, {8, 0.33}, {16, 0.36}, {32, 0.60}, {64, 1.14}, {256, 4.4}};
  static const TimeTable decodes{{1, 1.51},  {2, 1.66},  {4, 1.78},  {8, 1.93},  {12, 2.10}, {16, 2.23}, {24, 2.35},
                                 {32, 2.51}, {48, 3.10}, {64, 3.36}, {96, 5.00}, {128, 5.2}, {256, 8.5}};
  static const TimeTable tiles{{1, 1.7},   {8, 2.1},    {16, 2.35},  {32, 2.65},  {64, 3.45}, {128, 5.0},
                               {256, 7.6}, {384, 11.2}, {512, 13.6}, {640, 18.3}, {767, 22.0}};
  static const TimeTable decoded_once{{768, 22.0}, {1024, 29.5}, {2048, 57.0}, {4096, 114.0}};
  constexpr double kContext = 576;  // in the middle of those measured answers
  const double pairs = work.prompt_pairs * 3.4e-6;
  const double attended = on_lines(attention, work.decode_context / kContext) + pairs;
  if (work.n_tokens == work.n_decodes) return 1e-3 * (on_stairs(decodes, work.n_tokens) + attended);
  const double products = work.n_tokens < 768 ? on_stairs(tiles, work.n_tokens) : on_lines(decoded_once, work.n_tokens);
  return 1e-3 * (products + attended);
}

// Tokens a second that such a GPU could give n clients of 512 tokens in and 128 out: prompts at the rate of pure
// prefill, answers at that of pure decode.
inline double h200_ideal(int n_clients) {
  static const TimeTable step{{1, 1.71e-3}, {4, 2.04e-3}, {8, 2.26e-3}, {16, 2.59e-3}, {32, 3.11e-3}, {64, 4.50e-3}};
  constexpr double kPrefill = 36095;
  return 128 * n_clients / (512 * n_clients / kPrefill + 128 * on_lines(step, n_clients));
}

// Steps take what `seconds` says, give or take 2 %, one in 2,000 two and a half times as long; they run one after the
// other behind the host, which spends some time on each.
class SimulatedDevice : public Executor {
 public:
  SimulatedDevice(const ExecutorLimits& limits, StepSeconds seconds) : limits_(limits), seconds_(std::move(seconds)) {}

  double now = 0;  // seconds

  const ExecutorLimits& limits() const override { return limits_; }
  std::string description() const override { return "simulated"; }

  StepId enqueue(const StepBatch& batch) override {
    const StepWork work(batch);
    std::normal_distribution<double> spread(1, 0.02);
    std::exponential_distribution<double> late(1 / 20e-6);
    std::bernoulli_distribution hiccup(1.0 / 2000);
    const double seconds = seconds_(work) * std::max(0.9, spread(random_)) * (hiccup(random_) ? 2.5 : 1);
    const bool is_graph = work.n_tokens == work.n_decodes;
    now += is_graph ? 30e-6 : 230e-6;
    end_ = std::max(end_, now) + seconds + late(random_);
    steps_.push_back({end_, batch.rows.size()});
    return ++last_step_;
  }

  Result<StepOutput> wait(StepId) override {
    now = std::max(now, steps_.front().end);
    StepOutput output;
    output.rows.resize(steps_.front().n_rows);
    steps_.pop_front();
    return output;
  }

 private:
  struct Step {
    double end;
    size_t n_rows;
  };
  ExecutorLimits limits_;
  StepSeconds seconds_;
  std::mt19937_64 random_{1};
  std::deque<Step> steps_;
  double end_ = 0;
  StepId last_step_ = 0;
};

struct SimulatedLoad {
  int n_requests = 0;
  int n_clients = 0;  // who send the next request when the last one is answered; 0: they come at `rate`
  double rate = 0;    // a second, whatever becomes of them
  std::function<std::pair<int, int>(std::mt19937_64&)> lengths = [](auto&) { return std::pair(512, 128); };
};

struct SimulatedFigures {
  double tokens_per_second = 0;
  std::vector<double> gaps, first_tokens;  // seconds, ascending

  static double at(const std::vector<double>& sorted, double quantile) {
    return sorted.at(static_cast<size_t>(quantile * static_cast<double>(sorted.size())));
  }
  // Of gaps: how many times the median the 99th percentile is.
  double stretch() const { return at(gaps, 0.99) / at(gaps, 0.5); }
};

// A server that goes from load to load, and knows in each what it learned in those before.
class ServingSimulation {
 public:
  ServingSimulation(const ExecutorLimits& limits, const StepSeconds& seconds)
      : device_(limits, seconds),
        engine_(device_, nullptr, {.vocab_size = kVocab, .context_tokens = 9000, .now = [this] { return time(); }}) {}

  SimulatedFigures run(const SimulatedLoad& load) {
    load_ = &load;
    figures_ = {};
    running_.clear();
    n_begun_ = n_tokens_ = 0;
    const double begin = device_.now;
    double due = begin;
    for (int i = 0; i < (load.n_clients > 0 ? std::min(load.n_clients, load.n_requests) : load.n_requests); ++i) {
      due += load.n_clients > 0 ? 30e-6 : std::exponential_distribution<double>(load.rate)(random_);
      send(due);
    }
    while (!arrivals_.empty() || engine_.has_work()) {
      if (!engine_.has_work()) device_.now = std::max(device_.now, arrivals_.top());
      while (!arrivals_.empty() && arrivals_.top() <= device_.now) submit();
      engine_.step();
    }
    figures_.tokens_per_second = n_tokens_ / (device_.now - begin);
    std::sort(figures_.gaps.begin(), figures_.gaps.end());
    std::sort(figures_.first_tokens.begin(), figures_.first_tokens.end());
    return std::move(figures_);
  }

 private:
  static constexpr int kVocab = 1000;
  struct Running {
    double due = 0, last = 0;
    int n = 0;
  };

  EngineTime time() const {
    const std::chrono::duration<double> passed(3600 + device_.now);
    return EngineTime() + std::chrono::duration_cast<EngineClock::duration>(passed);
  }

  void send(double due) {
    arrivals_.push(due);
    ++n_begun_;
  }

  void submit() {
    const double due = arrivals_.top();
    arrivals_.pop();
    const auto [n_prompt, n_answer] = load_->lengths(random_);
    Request request{.prompt = std::vector<int32_t>(static_cast<size_t>(n_prompt)), .max_tokens = n_answer};
    for (int32_t& token : request.prompt) token = static_cast<int32_t>(random_() % kVocab);
    const auto sink = [this](RequestId id, const OutputDelta& delta) { receive(running_[id], delta); };
    const Result<RequestId> id = engine_.submit(std::move(request), sink);
    running_[id.value()] = {.due = due};
  }

  // What a client sees has been on its way for a while, and so will be what it sends next.
  void receive(Running& running, const OutputDelta& delta) {
    if (!delta.tokens.empty()) {
      const double now = device_.now + std::uniform_real_distribution<double>(0, 0.1e-3)(random_);
      if (running.n++ == 0)
        figures_.first_tokens.push_back(now - running.due);
      else
        figures_.gaps.push_back(now - running.last);
      running.last = now;
      ++n_tokens_;
    }
    if (delta.finish && load_->n_clients > 0 && n_begun_ < load_->n_requests)
      send(device_.now + 0.35e-3 + std::exponential_distribution<double>(1 / 0.1e-3)(random_));
  }

  SimulatedDevice device_;
  Engine engine_;
  std::mt19937_64 random_{2};
  std::priority_queue<double, std::vector<double>, std::greater<>> arrivals_;
  const SimulatedLoad* load_ = nullptr;
  SimulatedFigures figures_;
  std::map<RequestId, Running> running_;
  int n_begun_ = 0;
  int64_t n_tokens_ = 0;
};

}  // namespace spate::testing
