// Thousands of requests that come, go and are cancelled at random; who owns which page and slot is checked at each
// step.
#include <gtest/gtest.h>
#include <random>
#include <set>

#include "engine/engine_fixture.h"

namespace spate {
namespace {

using testing::hashed_draw;
using testing::tokens_alone;

struct SimulationCase {
  const char* name;
  ExecutorLimits limits;
  EngineOptions options;
  int n_requests;
};

void PrintTo(const SimulationCase& simulation, std::ostream* out) {
  *out << simulation.name;
}

class Simulation : public ::testing::TestWithParam<SimulationCase> {
 protected:
  Request random_request() {
    const auto up_to = [&](int n) { return std::uniform_int_distribution(0, n)(random_); };
    const int context = engine_.context_tokens();
    Request request;
    request.prompt.resize(1 + up_to(std::min(context, up_to(9) == 0 ? context : 60) - 2));
    for (int32_t& token : request.prompt) token = up_to(vocab() - 1);
    if (up_to(9) > 0) request.max_tokens = up_to(80);
    for (int n = up_to(2); n > 0; --n) request.stop_tokens.push_back(up_to(vocab() - 1));
    request.sampling.seed = random_();
    request.prompt_logprobs = up_to(7) == 0;
    request.n_logprobs = up_to(3);
    return request;
  }

  int vocab() const { return GetParam().options.vocab_size; }

  // Every page and slot belongs to exactly one running sequence, is free, or waits for a step in flight; and what is
  // free covers what running sequences may still need.
  void check_ownership() const {
    const Scheduler& scheduler = engine_.scheduler();
    std::set<int32_t> pages, slots;
    int n_promised = 0;
    for (const auto& sequence : scheduler.running()) {
      for (const int32_t page : sequence->pages) {
        ASSERT_EQ(scheduler.pages().owner(page), sequence->id);
        ASSERT_TRUE(pages.insert(page).second) << "page " << page << " belongs to two sequences";
      }
      ASSERT_EQ(scheduler.slots().owner(sequence->slot), sequence->id);
      ASSERT_TRUE(slots.insert(sequence->slot).second);
      n_promised += pages_for(sequence->max_kv_tokens()) - static_cast<int>(sequence->pages.size());
    }
    const int n_pages = GetParam().limits.n_pages, n_slots = GetParam().limits.max_seqs;
    ASSERT_EQ(static_cast<int>(pages.size()) + scheduler.pages().n_free() + scheduler.pages().n_pending(), n_pages);
    ASSERT_EQ(static_cast<int>(slots.size()) + scheduler.slots().n_free() + scheduler.slots().n_pending(), n_slots);
    ASSERT_GE(scheduler.pages().n_free(), n_promised);
    int n_owned = 0;
    for (int32_t page = 0; page < n_pages; ++page) n_owned += scheduler.pages().owner(page) != PagePool::kNoOwner;
    ASSERT_EQ(n_owned, n_pages - scheduler.pages().n_free());
    if (engine_.n_steps_in_flight() == 0) {
      ASSERT_EQ(scheduler.pages().n_pending(), 0);
    }
  }

  void expect_output(RequestId id) {
    const Request& request = requests_.at(id);
    const int room = engine_.context_tokens() - static_cast<int>(request.prompt.size());
    const int max_tokens = std::min(request.max_tokens.value_or(room), room);
    std::vector<int32_t> expected = tokens_alone(request, max_tokens, hashed_draw(vocab()));
    const testing::Output& output = recorder_[id];
    ASSERT_TRUE(output.finish.has_value()) << id;
    if (output.finish->reason == FinishReason::kCancelled) {
      ASSERT_LE(output.tokens.size(), expected.size());
      expected.resize(output.tokens.size());
    } else {
      const bool ended =
          !expected.empty() && std::count(request.stop_tokens.begin(), request.stop_tokens.end(), expected.back()) > 0;
      ASSERT_EQ(output.finish->reason, ended ? FinishReason::kStop : FinishReason::kLength) << id;
      if (request.prompt_logprobs) {
        ASSERT_EQ(output.prompt.size(), request.prompt.size() - 1);
      }
    }
    ASSERT_EQ(output.tokens, expected) << id;
  }

  std::mt19937 random_{1234};
  testing::FakeExecutor executor_{GetParam().limits, GetParam().options.vocab_size};
  testing::Recorder recorder_;
  Engine engine_{executor_, nullptr, GetParam().options};
  std::map<RequestId, Request> requests_;
};

TEST_P(Simulation, EveryRequest_GetsExactlyWhatItWouldAlone) {
  std::vector<RequestId> live;
  int n_cancelled = 0;
  bool busy = true;
  while (busy || static_cast<int>(requests_.size()) < GetParam().n_requests) {
    const uint32_t action = random_() % 10;
    if (action < 3 && static_cast<int>(requests_.size()) < GetParam().n_requests) {
      for (uint32_t n = random_() % 4; n > 0; --n) {  // in bursts, so that the queue grows and drains
        Request request = random_request();
        const RequestId id = engine_.submit(request, recorder_.sink()).value();
        requests_.emplace(id, std::move(request));
        live.push_back(id);
      }
    } else if (action == 3 && !live.empty()) {
      const size_t victim = random_() % live.size();
      n_cancelled += engine_.cancel(live[victim]);
      live.erase(live.begin() + victim);
    } else {
      busy = engine_.step();
    }
    check_ownership();
    if (HasFatalFailure()) return;
  }
  for (const auto& [id, request] : requests_) {
    expect_output(id);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(n_cancelled, GetParam().n_requests / 50);
  EXPECT_EQ(engine_.scheduler().pages().n_free(), GetParam().limits.n_pages);
  EXPECT_EQ(engine_.scheduler().slots().n_free(), GetParam().limits.max_seqs);
}

INSTANTIATE_TEST_SUITE_P(
    Engine, Simulation,
    ::testing::Values(
        SimulationCase{"Roomy", {16, 128, 200}, {.vocab_size = 60, .context_tokens = 300}, 3000},
        SimulationCase{"FewPages", {16, 64, 12}, {.vocab_size = 60, .context_tokens = 300}, 2000},
        SimulationCase{"FewSlots", {2, 64, 60}, {.vocab_size = 60, .context_tokens = 200}, 1000},
        SimulationCase{
            "SmallSteps", {8, 64, 60}, {.vocab_size = 40, .context_tokens = 200, .max_step_tokens = 9}, 1000},
        SimulationCase{
            "OneStepInFlight", {8, 64, 40}, {.vocab_size = 60, .context_tokens = 300, .max_steps_in_flight = 1}, 2000}),
    [](const auto& simulation) { return std::string(simulation.param.name); });

}  // namespace
}  // namespace spate
