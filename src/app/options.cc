#include "app/options.h"

#include <filesystem>
#include <limits>
#include <random>
#include <utility>

namespace spate::app {

CLI::Option* add_repeatable(CLI::App& parser, const std::string& names, std::function<void(const std::string&)> take,
                            const std::string& description) {
  // trigger_on_parse hands over each value by itself: as a vector, CLI11 would read "{}" as an empty list.
  return parser.add_option_function<std::string>(names, std::move(take), description)->trigger_on_parse();
}

void add_model_option(CLI::App& parser, std::string& path) {
  parser.add_option("MODEL", path, "a GGUF file; without one, the bundled model")->type_name("");
}

namespace {

constexpr const char* kBundledModel = "classics-33m-Q4_K_M.gguf";

}  // namespace

Result<std::string> model_path(const std::string& given) {
  if (!given.empty()) return given;
  std::vector<std::filesystem::path> folders;
  std::error_code no_proc;
  const auto executable = std::filesystem::read_symlink("/proc/self/exe", no_proc);
  if (!no_proc) {
    const auto beside = executable.parent_path();
    folders = {beside, beside / "models", beside.parent_path() / "share/spate"};
  }
  folders.emplace_back(SPATE_SOURCE_DIR "/models");
  for (const auto& folder : folders) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(folder / kBundledModel, ignored)) return (folder / kBundledModel).string();
  }
  return Error::io(kBundledModel, fmt::format("the bundled model is not beside the executable, in ../share/spate or "
                                              "in {}; name a model file",
                                              folders.back().string()));
}

int DeviceOptions::gpu_index() const {
  const size_t colon = device.find(':');
  return colon == std::string::npos ? 0 : parse_number<int>(std::string_view(device).substr(colon + 1)).value_or(0);
}

void add_device_options(CLI::App& parser, DeviceOptions& options) {
  const auto is_device = [](const std::string& name) -> std::string {
    constexpr std::string_view kNumbered = "cuda:";
    if (name == "auto" || name == "cpu" || name == "cuda") return {};
    if (name.starts_with(kNumbered)) {
      const auto index = parse_number<int>(std::string_view(name).substr(kNumbered.size()));
      if (index && *index >= 0) return {};
    }
    return fmt::format("'{}' is no device; there are auto, cpu, cuda and cuda:N", name);
  };
  parser.add_option("--device", options.device, "where the model runs: auto (default), cpu, cuda, cuda:N")
      ->check(is_device)
      ->type_name("NAME")
      ->group(kDeviceGroup);
  parser.add_option("--kv-type", options.kv_type, "what a GPU keeps keys and values in: f16 (default), q8_0, fp8")
      ->check(CLI::IsMember({"f16", "q8_0", "fp8"}))
      ->type_name("NAME")
      ->group(kDeviceGroup);
  parser
      .add_option("--prefill-precision", options.prefill_precision,
                  "what a GPU multiplies in where a step has hundreds of tokens: f16 (default), or fp8, which is "
                  "faster and less exact")
      ->check(CLI::IsMember({"f16", "fp8"}))
      ->type_name("NAME")
      ->group(kDeviceGroup);
  add_repeatable(
      parser, "--tune", [&options](const std::string& text) { options.tune.push_back(text); },
      "set a threshold of a GPU's kernels, for experiments; may be repeated")
      ->type_name("NAME=VALUE")
      ->group(kDeviceGroup);
  add_number(parser, "--threads", options.n_threads, 1, 1024, "processor threads; default: the physical cores")
      ->group(kDeviceGroup);
  parser
      .add_option("--isa", options.isa,
                  "instruction set of the CPU kernels: portable, avx2, avx512, amx; default: SPATE_ISA, else the best "
                  "there is")
      ->type_name("NAME")
      ->group(kDeviceGroup);
  parser
      .add_flag("--no-repack", options.no_repack,
                "run from the mapped file: less memory and no work at load, but slower")
      ->group(kDeviceGroup);
}

SamplingParams SamplingOptions::resolve() const {
  SamplingParams resolved = params;
  // 32 bits, so that every JSON reader gets the number back unchanged.
  resolved.seed = seed ? *seed : std::random_device{}();
  return resolved;
}

namespace {

constexpr float kHuge = 1e6f;  // finite bounds keep inf out of the sampler

// "ID=BIAS", where BIAS may be -inf.
LogitBias parse_logit_bias(const std::string& text) {
  const size_t equals = text.find('=');
  const auto id = parse_number<int32_t>(std::string_view(text).substr(0, equals));
  const auto bias =
      equals == std::string::npos ? std::nullopt : parse_number<float>(std::string_view(text).substr(equals + 1));
  if (!id || *id < 0 || !bias || *bias > kHuge)
    throw CLI::ValidationError("--logit-bias",
                               fmt::format("'{}' is not ID=BIAS, a token id and a number (-inf forbids)", text));
  return {.token = *id, .bias = *bias};
}

}  // namespace

void add_sampling_options(CLI::App& parser, SamplingOptions& options) {
  SamplingParams& params = options.params;
  const auto in_group = [](CLI::Option* option) { option->group(kSamplingGroup); };
  in_group(add_number(parser, "--temperature", params.temperature, 0, kHuge,
                      "0 always takes the most likely token; default 0.8"));
  in_group(add_number(parser, "--top-k", params.top_k, 0, std::numeric_limits<int>::max(),
                      "keep the N most likely tokens, 0 all; default 40"));
  in_group(add_number(parser, "--top-p", params.top_p, 0, 1,
                      "keep the most likely tokens that make up this probability, 1 all; default 0.95"));
  in_group(add_number(parser, "--min-p", params.min_p, 0, 1,
                      "keep tokens with this share of the most likely one's probability, 0 all; default 0.05"));
  in_group(add_number(parser, "--typical", params.typical_p, 0, 1, "locally typical sampling, 1 (default) keeps all"));
  in_group(add_number(parser, "--repeat-penalty", params.repetition_penalty, 1e-3f, kHuge,
                      "scales down tokens that are in the context; default 1, none"));
  in_group(add_number(parser, "--presence-penalty", params.presence_penalty, -kHuge, kHuge,
                      "subtracted from tokens that were generated; default 0"));
  in_group(add_number(parser, "--frequency-penalty", params.frequency_penalty, -kHuge, kHuge,
                      "subtracted for each time a token was generated; default 0"));
  in_group(add_repeatable(
               parser, "--logit-bias",
               [&options](const std::string& text) { options.logit_bias.push_back(parse_logit_bias(text)); },
               "added to a token's logit, -inf forbids it; may be repeated")
               ->type_name("ID=BIAS"));
  in_group(parser
               .add_option_function<std::string>(
                   "--seed",
                   [&options](const std::string& text) {
                     options.seed = parse_number<uint64_t>(text);
                     if (!options.seed)
                       throw CLI::ValidationError("--seed", fmt::format("'{}' is not a whole number below 2^64", text));
                   },
                   "the same seed gives the same text; default: a random one, shown at the end")
               ->type_name("N"));
}

}  // namespace spate::app
