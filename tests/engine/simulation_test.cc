// Thousands of requests that come, go, run out of time and of pages at random; who holds which page and slot is checked
// at each step, and in the end everybody has exactly what it would have got alone.
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::fake_hidden;
using testing::hashed_draw;
using testing::tokens_alone;

struct SimulationCase {
  const char* name;
  ExecutorLimits limits;
  EngineOptions options;
  int n_requests;
  bool preempts = false;  // pages must have run out
};

void PrintTo(const SimulationCase& simulation, std::ostream* out) {
  *out << simulation.name;
}

class Simulation : public ::testing::TestWithParam<SimulationCase> {
 protected:
  Simulation() {
    executor_.on_enqueue = [this](const StepBatch& batch) { clock_.advance(0.001 + 1e-5 * batch.n_tokens()); };
  }

  int up_to(int n) { return std::uniform_int_distribution(0, n)(random_); }
  bool one_in(int n) { return up_to(n - 1) == 0; }
  int vocab() const { return GetParam().options.vocab_size; }

  Request random_request() {
    const int context = engine_.context_tokens();
    Request request;
    request.prompt.resize(1 + up_to(std::min(context, one_in(10) ? context : 60) - 2));
    for (int32_t& token : request.prompt) token = up_to(vocab() - 1);
    if (one_in(2)) begin_like_others(request.prompt);
    if (!one_in(10)) request.max_tokens = up_to(80);
    for (int n = up_to(2); n > 0; --n) request.stop_tokens.push_back(up_to(vocab() - 1));
    request.sampling.seed = random_();
    request.n_logprobs = up_to(3);
    if (one_in(8)) request.prompt_logprobs = true;
    if (one_in(6)) request.n_choices = 1 + up_to(kMaxChoices - 1);
    if (one_in(4)) request.priority = up_to(4) - 2;
    if (one_in(8)) request.deadline = clock_.in(0.001 * up_to(400));
    if (one_in(4)) request.cache_salt = one_in(2) ? "a" : "b";
    if (one_in(12)) {
      request.pooling = one_in(2) ? Pooling::kLast : Pooling::kMean;
      request.max_tokens = 0;
      request.n_choices = 1;
      request.prompt_logprobs = false;
    }
    return request;
  }

  // One of three beginnings, of any length.
  void begin_like_others(std::vector<int32_t>& prompt) {
    const int32_t kind = up_to(2);
    const size_t n = std::min<size_t>(prompt.size(), static_cast<size_t>(up_to(150)));
    for (size_t i = 0; i < n; ++i) prompt[i] = static_cast<int32_t>((7 * i + static_cast<size_t>(kind)) % 39);
  }

  // Every page is free, cached, pending, or held by as many sequences as the pool says; only pages that are entered in
  // the prefix cache are shared. Every slot has one owner.
  void check_ownership() const {
    const Scheduler& scheduler = engine_.scheduler();
    const KvPages& pages = scheduler.pages();
    std::vector<int> holders(static_cast<size_t>(pages.size()));
    std::set<int32_t> slots;
    for (const auto& sequence : scheduler.running()) {
      ASSERT_GE(static_cast<int>(sequence->pages.size()), pages_for(sequence->n_planned));
      for (const int32_t page : sequence->pages) ++holders[static_cast<size_t>(page)];
      for (size_t i = static_cast<size_t>(sequence->n_published); i < sequence->pages.size(); ++i)
        ASSERT_EQ(pages.n_holders(sequence->pages[i]), 1) << "page " << sequence->pages[i] << " is written and shared";
      ASSERT_EQ(scheduler.slots().owner(sequence->slot), sequence->id());
      ASSERT_TRUE(slots.insert(sequence->slot).second);
    }
    int n_held = 0;
    for (int32_t page = 0; page < pages.size(); ++page) {
      n_held += holders[static_cast<size_t>(page)] > 0;
      if (pages.n_holders(page) != holders[static_cast<size_t>(page)])
        FAIL() << "page " << page << ": " << pages.n_holders(page) << " and not " << holders[static_cast<size_t>(page)];
    }
    ASSERT_EQ(pages.n_held(), n_held);
    const int n_slots = GetParam().limits.max_seqs;
    ASSERT_EQ(static_cast<int>(slots.size()) + scheduler.slots().n_free() + scheduler.slots().n_pending(), n_slots);
    for (const auto& sequence : scheduler.waiting()) ASSERT_TRUE(sequence->pages.empty());
    if (engine_.n_steps_in_flight() == 0) {
      ASSERT_EQ(pages.n_pending() + scheduler.slots().n_pending(), 0);
    }
  }

  void expect_output(RequestId id, int choice) {
    Request request = requests_.at(id);
    request.sampling.seed += static_cast<uint64_t>(choice);
    const int room = engine_.context_tokens() - static_cast<int>(request.prompt.size());
    const int max_tokens = std::min(request.max_tokens.value_or(room), room);
    std::vector<int32_t> expected = tokens_alone(request, max_tokens, hashed_draw(vocab()));
    const testing::Output& output = recorder_.of(id, choice);
    ASSERT_TRUE(output.finish.has_value()) << id;
    const FinishReason reason = output.finish->reason;
    if (reason == FinishReason::kCancelled || reason == FinishReason::kDeadline) {
      ASSERT_LE(output.tokens.size(), expected.size());
      expected.resize(output.tokens.size());
    } else {
      const bool ended =
          !expected.empty() && std::count(request.stop_tokens.begin(), request.stop_tokens.end(), expected.back()) > 0;
      ASSERT_EQ(reason, ended ? FinishReason::kStop : FinishReason::kLength) << id;
      expect_prompt_output(request, output, choice);
    }
    ASSERT_EQ(output.tokens, expected) << id;
    ASSERT_EQ(output.finish->cost.n_generated_tokens, static_cast<int>(expected.size()));
  }

  static void expect_prompt_output(const Request& request, const testing::Output& output, int choice) {
    const std::span prompt(request.prompt);
    ASSERT_EQ(output.prompt.size(), request.prompt_logprobs && choice == 0 ? prompt.size() - 1 : 0);
    for (size_t i = 0; i < output.prompt.size(); ++i) {
      ASSERT_EQ(output.prompt[i].token, prompt[i + 1]);
      ASSERT_EQ(output.prompt[i].logprob, testing::fake_logprob(prompt.first(i + 1), prompt[i + 1]));
    }
    std::vector<float> embedding;
    if (request.pooling == Pooling::kLast) embedding = fake_hidden(prompt);
    if (request.pooling == Pooling::kMean) {
      std::vector<double> sums(4);
      for (size_t n = 1; n <= prompt.size(); ++n)
        for (size_t i = 0; i < sums.size(); ++i) sums[i] += fake_hidden(prompt.first(n))[i];
      for (const double sum : sums) embedding.push_back(static_cast<float>(sum / static_cast<double>(prompt.size())));
    }
    ASSERT_EQ(output.embedding, embedding);
  }

  EngineOptions options() {
    EngineOptions options = GetParam().options;
    options.now = clock_.now();
    return options;
  }

  std::mt19937 random_{1234};
  testing::FakeClock clock_;
  testing::FakeExecutor executor_{GetParam().limits, GetParam().options.vocab_size};
  testing::Recorder recorder_;
  Engine engine_{executor_, nullptr, options()};
  std::map<RequestId, Request> requests_;
};

TEST_P(Simulation, EveryRequest_GetsExactlyWhatItWouldAlone) {
  std::vector<RequestId> live;
  bool busy = true;
  while (busy || static_cast<int>(requests_.size()) < GetParam().n_requests) {
    const uint32_t action = random_() % 10;
    if (action < 3 && static_cast<int>(requests_.size()) < GetParam().n_requests) {
      for (uint32_t n = random_() % 4; n > 0; --n) {  // in bursts, so that the queue grows and drains
        Request request = random_request();
        const Result<RequestId> id = engine_.submit(request, recorder_.sink());
        ASSERT_TRUE(id.ok()) << id.error().message;
        requests_.emplace(*id, std::move(request));
        live.push_back(*id);
      }
    } else if (action == 3 && !live.empty()) {
      const size_t victim = random_() % live.size();
      engine_.cancel(live[victim]);
      live.erase(live.begin() + static_cast<ptrdiff_t>(victim));
    } else {
      busy = engine_.step();
    }
    check_ownership();
    if (HasFatalFailure()) return;
  }
  for (const auto& [id, request] : requests_) {
    for (int choice = 0; choice < request.n_choices; ++choice) expect_output(id, choice);
    if (HasFatalFailure()) return;
  }

  EngineStats stats;
  engine_.update(stats);
  EXPECT_EQ(stats.n_pages_used + stats.n_running + stats.n_waiting, 0);
  EXPECT_EQ(engine_.scheduler().pages().n_free() + stats.n_pages_cached, GetParam().limits.n_pages);
  EXPECT_EQ(engine_.scheduler().slots().n_free(), GetParam().limits.max_seqs);
  // What the simulation is about did happen.
  EXPECT_GT(stats.n_finished[static_cast<size_t>(FinishReason::kCancelled)], GetParam().n_requests / 50u);
  EXPECT_GT(stats.n_finished[static_cast<size_t>(FinishReason::kDeadline)], GetParam().n_requests / 50u);
  EXPECT_EQ(stats.n_cached_tokens > 0, GetParam().options.kv_reuse != KvReuse::kNone);
  if (GetParam().preempts) {
    EXPECT_GT(stats.n_preemptions, GetParam().n_requests / 40u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Engine, Simulation,
    ::testing::Values(SimulationCase{"Roomy", {16, 128, 200}, {.vocab_size = 60, .context_tokens = 300}, 1500},
                      SimulationCase{"FewPages", {16, 64, 12}, {.vocab_size = 60, .context_tokens = 300}, 2000, true},
                      SimulationCase{"FewPagesNoReuse",
                                     {16, 64, 12},
                                     {.vocab_size = 60, .context_tokens = 300, .kv_reuse = KvReuse::kNone},
                                     1000,
                                     true},
                      SimulationCase{"OneConversation",
                                     {4, 64, 14},
                                     {.vocab_size = 60, .context_tokens = 300, .kv_reuse = KvReuse::kOneConversation},
                                     1000},
                      SimulationCase{"FewSlots", {2, 64, 60}, {.vocab_size = 60, .context_tokens = 200}, 800},
                      SimulationCase{"SmallSteps",
                                     {8, 64, 20},
                                     {.vocab_size = 60, .context_tokens = 200, .max_step_tokens = 9},
                                     1000},
                      SimulationCase{"OneStepInFlight",
                                     {8, 64, 12},
                                     {.vocab_size = 60, .context_tokens = 300, .max_steps_in_flight = 1},
                                     1000,
                                     true}),
    [](const auto& simulation) { return std::string(simulation.param.name); });

}  // namespace
}  // namespace spate
