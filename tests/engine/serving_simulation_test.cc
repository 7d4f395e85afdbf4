// What readers and clients get of a GPU whose step times are known, by the policy as it is. Prints tables: figures here
// are simulated, and the same in every run.
#include "serving_simulation.h"

#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>

namespace spate {
namespace {

using testing::h200_ideal;
using testing::h200_seconds;
using testing::ServingSimulation;
using testing::SimulatedFigures;
using testing::SimulatedLoad;
using testing::StepWork;

constexpr ExecutorLimits kH200Limits{.max_seqs = 64, .max_step_tokens = 4096, .n_pages = 16384};

// ideal: tokens a second that the device could do, or of an open loop those that are asked for.
void print(const std::string& load, double ideal, const SimulatedFigures& figures) {
  const auto ms = [](const std::vector<double>& sorted, double q) { return 1e3 * SimulatedFigures::at(sorted, q); };
  std::printf(
      "%-22s %5.0f tok/s, %3.0f %%; gaps p50 %5.2f p99 %5.2f ms, %.1f times; first token p50 %4.0f p99 %4.0f ms\n",
      load.c_str(), figures.tokens_per_second, 100 * figures.tokens_per_second / ideal, ms(figures.gaps, 0.5),
      ms(figures.gaps, 0.99), figures.stretch(), ms(figures.first_tokens, 0.5), ms(figures.first_tokens, 0.99));
}

// As `bench/scoreboard` puts it under load: level after level, twelve requests a client.
TEST(ServingSimulation, ClientsInAClosedLoop_GetWhatTheDeviceCanDo) {
  ServingSimulation serving(kH200Limits, h200_seconds);
  for (const int n_clients : {1, 4, 8, 16, 32, 64}) {
    const SimulatedFigures figures = serving.run({.n_requests = 12 * n_clients, .n_clients = n_clients});
    print(fmt::format("{} clients", n_clients), h200_ideal(n_clients), figures);
    EXPECT_GT(figures.tokens_per_second, 0.92 * h200_ideal(n_clients)) << n_clients << " clients";
    EXPECT_LT(figures.stretch(), 4) << n_clients << " clients";
    EXPECT_LT(SimulatedFigures::at(figures.first_tokens, 0.5), 0.060) << n_clients << " clients";
  }
}

// Prompts of 64 to 4,096 tokens, as many between 64 and 128 as between 2,048 and 4,096; answers of 32 to 255.
std::pair<int, int> mixed_lengths(std::mt19937_64& random) {
  std::uniform_real_distribution<double> log_prompt(std::log(64), std::log(4096));
  return {static_cast<int>(std::exp(log_prompt(random))), std::uniform_int_distribution<int>(32, 255)(random)};
}

TEST(ServingSimulation, PromptsOfAllLengthsAtSeventyPercent_StretchNoGaps) {
  ServingSimulation serving(kH200Limits, h200_seconds);
  for (const double rate : {2.0, 7.0, 12.0, 15.0}) {
    const SimulatedFigures figures = serving.run({.n_requests = 150, .rate = rate, .lengths = mixed_lengths});
    print(fmt::format("{} mixed a second", rate), rate * 143.5, figures);
    EXPECT_LT(figures.stretch(), 4) << rate << " a second";
    EXPECT_LT(SimulatedFigures::at(figures.first_tokens, 0.5), 0.150) << rate << " a second";
  }
}

// Where every token costs the same and steps take a hundred times as long, as on a CPU.
TEST(ServingSimulation, DeviceWithoutTiles_KeepsToTheLimit) {
  const auto seconds = [](const StepWork& work) { return 0.050 + 0.012 * work.n_tokens; };
  ServingSimulation serving({.max_seqs = 16, .max_step_tokens = 512, .n_pages = 2048}, seconds);
  const SimulatedLoad load{.n_requests = 16, .n_clients = 4, .lengths = [](auto&) { return std::pair(128, 32); }};
  const SimulatedFigures figures = serving.run(load);
  print("4 clients of a CPU", 1 / (128.0 / 32 * 0.012 + (0.050 + 0.012 * 4) / 4), figures);
  EXPECT_LT(SimulatedFigures::at(figures.gaps, 0.99), 1.1 * kDefaultDecodeStretch * (0.050 + 0.012 * 3));
}

}  // namespace
}  // namespace spate
