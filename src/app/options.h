// Options that several commands share, so that they are spelt, checked and explained alike.
#pragma once

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "app/numbers.h"
#include "backend/executor.h"
#include "base/error.h"

namespace spate::app {

// Groups of --help.
inline constexpr const char* kGeneralGroup = "General";
inline constexpr const char* kDeviceGroup = "Device";
inline constexpr const char* kSamplingGroup = "Sampling";

// An option that takes a number in [min, max]. (CLI11's own conversion reads "010" as 8 and "" as 0.)
template <typename T>
CLI::Option* add_number(CLI::App& parser, const std::string& names, T& value, std::type_identity_t<T> min,
                        std::type_identity_t<T> max, const std::string& description) {
  const auto parse = [&value, min, max, names](const std::string& text) {
    const std::optional<T> number = parse_number<T>(text);
    if (!number || *number < min || *number > max)
      throw CLI::ValidationError(names, fmt::format("'{}' is not a number from {} to {}", text, min, max));
    value = *number;
  };
  return parser.add_option_function<std::string>(names, parse, description)
      ->type_name(std::is_integral_v<T> ? "N" : "X");
}

// An option that may be given several times, one value each; `take` gets every value and may throw
// CLI::ValidationError.
CLI::Option* add_repeatable(CLI::App& parser, const std::string& names, std::function<void(const std::string&)> take,
                            const std::string& description);

// The positional MODEL. Left empty, it means the bundled model.
void add_model_option(CLI::App& parser, std::string& path);

// The path given, or the bundled model: looked for beside the executable, in models/ beside it, in ../share/spate/, and
// in the source tree that the program was built from. Error kIo where it is in none of them.
Result<std::string> model_path(const std::string& given);

// Where the model runs.
struct DeviceOptions {
  std::string device = "auto";  // auto | cpu | cuda | cuda:N
  int n_threads = 0;            // 0: the physical cores
  std::string isa;              // empty: SPATE_ISA, else the best the processor has
  bool no_repack = false;
  std::string kv_type = "f16";            // of a GPU's KV cache: f16 | q8_0 | fp8
  std::string prefill_precision = "f16";  // of a GPU's products of long prefill: f16 | fp8
  std::vector<std::string> tune;          // NAME=VALUE, thresholds of a GPU's kernels

  // Which GPU is meant, if one is.
  int gpu_index() const;
};
void add_device_options(CLI::App& parser, DeviceOptions& options);

// How tokens are drawn.
struct SamplingOptions {
  SamplingParams params{.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f};  // seed: see below
  std::optional<uint64_t> seed;                                                             // else a random one
  std::vector<LogitBias> logit_bias;

  // params with the seed given, or with one drawn from the operating system.
  SamplingParams resolve() const;
};
void add_sampling_options(CLI::App& parser, SamplingOptions& options);

}  // namespace spate::app
