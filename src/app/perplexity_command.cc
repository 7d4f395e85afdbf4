// spate perplexity: how well a model predicts a text.
#include <CLI/CLI.hpp>
#include <chrono>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/load.h"
#include "app/options.h"
#include "app/perplexity.h"
#include "app/progress_bar.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/file.h"
#include "base/log.h"

namespace spate::app {

namespace {

struct PerplexityCommandOptions {
  std::string model;
  std::string text;
  PerplexityOptions measure;
  int step_tokens = 0;  // 0: the context
  DeviceOptions device;
  bool json = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Result<void> check_options(PerplexityCommandOptions& options) {
  // `spate perplexity TEXT` runs the bundled model: of two positionals the parser fills the first one first.
  if (options.text.empty()) std::swap(options.model, options.text);
  if (options.text.empty()) return Error::usage("no text named; `spate perplexity MODEL TEXT`, or TEXT alone");
  if (options.model.empty() && options.text.ends_with(".gguf"))
    return Error::usage(fmt::format("no text named beside the model {}", options.text));
  options.measure.step_tokens = options.step_tokens == 0 ? options.measure.context : options.step_tokens;
  if (options.measure.step_tokens > options.measure.context)
    return Error::usage(fmt::format("--step-tokens {} is more than the context of {}", options.measure.step_tokens,
                                    options.measure.context));
  return {};
}

std::string as_json(const PerplexityEstimate& result, const PerplexityCommandOptions& options, size_t n_text_tokens,
                    double load_seconds, double run_seconds) {
  const double n_run_tokens = static_cast<double>(result.n_chunks) * options.measure.context;
  return json_line({{"perplexity", result.perplexity()},
                    {"perplexity_stderr", result.stderr_perplexity()},
                    {"mean_nll", result.mean_nll},
                    {"tokens_scored", result.n_tokens_scored},
                    {"chunks", result.n_chunks},
                    {"context", options.measure.context},
                    {"step_tokens", options.measure.step_tokens},
                    {"text_tokens", n_text_tokens},
                    {"timings",
                     {{"load_seconds", load_seconds},
                      {"run_seconds", run_seconds},
                      {"tokens_per_second", n_run_tokens / run_seconds}}}});
}

Result<void> perplexity(PerplexityCommandOptions options) {
  SPATE_TRY_VOID(check_options(options));
  const auto load_start = std::chrono::steady_clock::now();
  SPATE_TRY(const std::string text, read_file(options.text));
  SPATE_TRY(const LoadedModel loaded, load_model(options.model));
  if (const int trained = loaded.model->spec().context_length; options.measure.context > trained)
    log::warn("--context {} is beyond the {} positions that the model was trained on", options.measure.context,
              trained);
  const std::vector<TokenId> tokens = loaded.tokenizer->encode(text, {.parse_special = false, .add_special = false});
  SPATE_TRY_VOID(count_chunks(tokens.size(), options.measure));  // before an executor of that size is made
  SPATE_TRY(const std::unique_ptr<Executor> executor,
            make_executor(loaded.model, options.device, perplexity_limits(options.measure)));
  const double load_seconds = seconds_since(load_start);

  const auto run_start = std::chrono::steady_clock::now();
  const InterruptGuard interrupt;
  ProgressBar bar("perplexity");
  SPATE_TRY(const PerplexityEstimate result,
            measure_perplexity(*executor, tokens, options.measure, [&](const PerplexityEstimate& so_far) {
              bar.update(
                  static_cast<double>(so_far.n_chunks) / static_cast<double>(so_far.n_chunks_total),
                  fmt::format("chunk {} of {}: {:.4f}", so_far.n_chunks, so_far.n_chunks_total, so_far.perplexity()));
              return !interrupt.interrupted();
            }));
  bar.clear();
  const double run_seconds = seconds_since(run_start);

  StandardOutput out;
  out.write(options.json ? as_json(result, options, tokens.size(), load_seconds, run_seconds)
                         : fmt::format("perplexity {:.4f} +- {:.4f} over {} tokens of {} chunks\n", result.perplexity(),
                                       result.stderr_perplexity(), result.n_tokens_scored, result.n_chunks));
  return out.finish();
}

Action setup_perplexity(CLI::App& parser) {
  auto options = std::make_shared<PerplexityCommandOptions>();
  add_model_option(parser, options->model);
  parser.add_option("TEXT", options->text, "the text to predict, read as bytes; - is standard input")->type_name("");
  add_number(parser, "--context", options->measure.context, kMinPerplexityContext, 1 << 20,
             "tokens a chunk, the second half of which is scored; default 512");
  add_number(parser, "--step-tokens", options->step_tokens, 1, 1 << 20,
             "tokens run at once, at most the context; default: the context");
  add_number(parser, "--chunks", options->measure.max_chunks, 1, std::numeric_limits<int64_t>::max(),
             "stop after this many chunks; default: all");
  parser.add_flag("--json", options->json, "write one JSON object: perplexity, tokens_scored, timings, ...");
  add_device_options(parser, options->device);
  return [options] { return perplexity(*options); };
}

}  // namespace

const Command perplexity_command{.name = "perplexity",
                                 .summary = "Measure how well a model predicts a text",
                                 .examples =
                                     "  spate perplexity model.gguf book.txt\n"
                                     "  spate perplexity model.gguf book.txt --chunks 20 --step-tokens 64 --json",
                                 .setup = setup_perplexity};

}  // namespace spate::app
