// spate synth: a model file of a named shape with random weights.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/options.h"
#include "app/progress_bar.h"
#include "app/text_format.h"
#include "bench/synth_model.h"

namespace spate::app {

namespace {

struct SynthCommandOptions {
  SynthOptions model;
  std::string out;
};

Result<void> synth(const SynthCommandOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const InterruptGuard interrupt;
  ProgressBar bar("writing");
  SPATE_TRY(const SynthReport report, write_synth_model(options.model, options.out, [&](double fraction) {
              bar.update(fraction);
              return !interrupt.interrupted();
            }));
  bar.clear();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(
      stderr, "%s\n",
      fmt::format("{}: {} tensors, {} in {:.1f} s ({:.2f} GB/s)", escape_control(options.out), report.n_tensors,
                  format_bytes(report.tensor_bytes), seconds, static_cast<double>(report.tensor_bytes) / seconds / 1e9)
          .c_str());
  return {};
}

std::string shape_names() {
  std::string names;
  for (const SynthShape& shape : synth_shapes()) names += fmt::format("{}{}", names.empty() ? "" : ", ", shape.name);
  return names;
}

Action setup_synth(CLI::App& parser) {
  auto options = std::make_shared<SynthCommandOptions>();
  parser.add_option("SHAPE", options->model.shape, "one of " + shape_names())->required()->type_name("");
  parser.add_option("TYPE", options->model.type, "a tensor type or a mix of them, any case: q4_k_m, q8_0, f16, ...")
      ->required()
      ->type_name("");
  parser.add_option("OUT", options->out, "the file to write; replaced where it is there")->required()->type_name("");
  add_number(parser, "--layers", options->model.n_layers, 1, 4096, "layers; default: as many as the shape has");
  add_number(parser, "--seed", options->model.seed, 0, std::numeric_limits<uint64_t>::max(),
             "the same seed gives the same file; default 1");
  return [options] { return synth(*options); };
}

}  // namespace

const Command synth_command{.name = "synth",
                            .summary = "Write a model of random weights in the shape of a known one, to measure with",
                            .examples =
                                "  spate synth qwen2.5-1.5b q4_k_m qwen.gguf\n"
                                "  spate synth llama-3.1-70b q8_0 slice.gguf --layers 4",
                            .setup = setup_synth};

}  // namespace spate::app
