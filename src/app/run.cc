// spate run: a prompt in, a completion out.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/generate.h"
#include "app/interrupt.h"
#include "app/load.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/file.h"
#include "base/log.h"

namespace spate::app {

namespace {

// Tokens of a prompt that run in one step: enough to keep the matrix kernels busy, few enough for Ctrl-C to be noticed.
constexpr int kPromptStepTokens = 512;

struct RunOptions {
  std::string model;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  int max_tokens = 256;
  int context = 0;  // 0: what the model was trained on
  std::vector<std::string> stop;
  bool no_special = false;
  int n_logprobs = -1;  // -1: not asked for
  bool prompt_logprobs = false;
  bool json = false;
  SamplingOptions sampling;
  DeviceOptions device;
};

Result<std::string> prompt_text(const RunOptions& options) {
  if (options.prompt && options.prompt_file) return Error::usage("give the prompt by -p or by -f, not both");
  if (options.prompt_file) return read_file(*options.prompt_file);
  if (!options.prompt) return Error::usage("no prompt; -p TEXT, -p - for standard input, or -f FILE");
  if (*options.prompt == "-") return read_file("-");
  return *options.prompt;
}

// Tokens to make room for: all that the request may need, within the context.
Result<int> context_for(const RunOptions& options, int trained_context, size_t n_prompt) {
  const int cap = options.context > 0 ? options.context : trained_context;
  if (cap > trained_context)
    log::warn("--ctx {} is beyond the {} positions that the model was trained on", cap, trained_context);
  const int64_t n_wanted = static_cast<int64_t>(n_prompt) + options.max_tokens;
  if (static_cast<int64_t>(n_prompt) + std::min(options.max_tokens, 1) > cap)
    return Error::out_of_resources(
        fmt::format("the prompt of {} tokens leaves no room in the context of {}; shorten it{}", n_prompt, cap,
                    cap < trained_context ? " or raise --ctx" : ""));
  return static_cast<int>(std::min<int64_t>(n_wanted, cap));
}

const char* finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "interrupted";
    case FinishReason::kError:
      return "error";
  }
  return "?";
}

double rate(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

// Decoding speed counts the tokens after the first, which the prompt's last step draws.
double decode_rate(const Generation& generation) {
  return generation.tokens.empty() ? 0
                                   : rate(static_cast<double>(generation.tokens.size() - 1), generation.decode_seconds);
}

Json top_json(const std::vector<TokenLogprob>& top, const Tokenizer& tokenizer) {
  Json list = Json::array();
  for (const TokenLogprob& entry : top)
    list.push_back({{"id", entry.token},
                    {"token", std::string(tokenizer.token_bytes(entry.token, true))},
                    {"logprob", entry.logprob}});
  return list;
}

// A run, as far as its report needs it.
struct Run {
  const RunOptions& options;
  const LoadedModel& loaded;
  const Executor& executor;
  const std::vector<TokenId>& prompt;
  uint64_t seed;
  double load_seconds;
};

Json timings_json(const Run& run, const Generation& generation) {
  return {{"load_seconds", run.load_seconds},
          {"prompt_seconds", generation.prompt_seconds},
          {"prompt_tokens_per_second", rate(static_cast<double>(run.prompt.size()), generation.prompt_seconds)},
          {"decode_seconds", generation.decode_seconds},
          {"decode_tokens_per_second", decode_rate(generation)}};
}

std::string as_json(const Run& run, const Generation& generation) {
  Json token_ids = Json::array(), logprobs = Json::array();
  for (const GeneratedToken& token : generation.tokens) {
    token_ids.push_back(token.token);
    logprobs.push_back({{"id", token.token},
                        {"token", std::string(run.loaded.tokenizer->token_bytes(token.token, true))},
                        {"logprob", token.logprob},
                        {"top", top_json(token.top, *run.loaded.tokenizer)}});
  }
  Json json = {{"text", generation.text},
               {"token_ids", std::move(token_ids)},
               {"prompt_tokens", run.prompt.size()},
               {"finish_reason", finish_name(generation.finish.reason)}};
  if (generation.finish.stop_string) json["stop_string"] = *generation.finish.stop_string;
  json["seed"] = run.seed;
  if (run.options.n_logprobs >= 0) json["logprobs"] = std::move(logprobs);
  if (run.options.prompt_logprobs) {
    Json prompt_logprobs = Json::array(), prompt_argmax = Json::array();
    for (const PromptToken& token : generation.prompt) {
      prompt_logprobs.push_back(token.logprob);
      prompt_argmax.push_back(token.arg_max);
    }
    json["prompt_ids"] = run.prompt;
    json["prompt_logprobs"] = std::move(prompt_logprobs);
    json["prompt_argmax"] = std::move(prompt_argmax);
  }
  json["model"] = run.loaded.model->file().path();
  json["device"] = run.executor.description();
  json["timings"] = timings_json(run, generation);
  return json_line(json);
}

std::string summary(const Run& run, const Generation& generation) {
  return fmt::format("prompt {} tokens, {:.1f} tok/s; generated {} tokens, {:.1f} tok/s; loaded in {:.2f} s; seed {}",
                     run.prompt.size(), rate(static_cast<double>(run.prompt.size()), generation.prompt_seconds),
                     generation.tokens.size(), decode_rate(generation), run.load_seconds, run.seed);
}

Request make_request(const RunOptions& options, const std::vector<TokenId>& prompt) {
  return {.prompt = prompt,
          .max_tokens = options.max_tokens,
          .sampling = options.sampling.resolve(),
          .logit_bias = options.sampling.logit_bias,
          .stop_strings = options.stop,
          .stop_tokens = {},
          .n_logprobs = std::max(options.n_logprobs, 0),
          .prompt_logprobs = options.prompt_logprobs};
}

// Runs the request and writes what it gives: the text as it comes, or one JSON object at the end.
Result<void> run_request(const Run& run, Engine& engine, Request request) {
  StandardOutput out;
  const InterruptGuard interrupt;
  log::info("generating on {}", run.executor.description());
  bool line_open = false;
  const auto on_text = [&](std::string_view text) {
    if (run.options.json) return;
    out.write(text);
    line_open = !text.ends_with('\n');
  };
  const auto cancelled = [&] { return interrupt.interrupted() || out.failed(); };
  const Result<Generation> generation = generate(engine, std::move(request), on_text, cancelled);
  if (line_open) out.write("\n");
  if (!generation) return generation.error();
  if (run.options.json) out.write(as_json(run, *generation));
  SPATE_TRY_VOID(out.finish());
  if (!run.options.json && !out.failed()) std::fprintf(stderr, "%s\n", summary(run, *generation).c_str());
  if (interrupt.interrupted() && generation->finish.reason == FinishReason::kCancelled)
    return Error::interrupted(fmt::format("stopped by a signal after {} tokens", generation->tokens.size()));
  return {};
}

Result<void> run_command_action(const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  SPATE_TRY(const std::string text, prompt_text(options));
  SPATE_TRY(const LoadedModel loaded, load_model(options.model));
  const std::vector<TokenId> prompt = loaded.tokenizer->encode(text, {.parse_special = !options.no_special});
  if (prompt.empty()) return Error::usage("the prompt is empty, and this model adds no BOS token; give it some text");
  const ModelSpec& spec = loaded.model->spec();
  SPATE_TRY(const int context, context_for(options, spec.context_length, prompt.size()));
  const int step_tokens = std::min(static_cast<int>(prompt.size()), kPromptStepTokens);
  SPATE_TRY(const std::unique_ptr<Executor> executor,
            make_executor(
                loaded.model, options.device,
                {.max_seqs = 1, .max_step_tokens = step_tokens, .n_pages = (context + kPageTokens - 1) / kPageTokens}));
  Engine engine(*executor, loaded.tokenizer.get(), {.vocab_size = spec.vocab_size, .context_tokens = context});
  Request request = make_request(options, prompt);
  const Run run{.options = options,
                .loaded = loaded,
                .executor = *executor,
                .prompt = prompt,
                .seed = request.sampling.seed,
                .load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
  return run_request(run, engine, std::move(request));
}

Action setup(CLI::App& parser) {
  auto options = std::make_shared<RunOptions>();
  add_model_option(parser, options->model);
  parser.add_option("-p,--prompt", options->prompt, "the text to continue; - reads standard input to its end");
  parser.add_option("-f,--file", options->prompt_file, "a file that holds the text to continue")->type_name("FILE");
  add_number(parser, "-n,--max-tokens", options->max_tokens, 0, std::numeric_limits<int>::max(),
             "tokens to generate at most; default 256");
  add_number(parser, "--ctx", options->context, 1, std::numeric_limits<int>::max() / 2,
             "tokens that prompt and completion may have together; default: what the model was trained on");
  add_repeatable(
      parser, "--stop", [options](const std::string& text) { options->stop.push_back(text); },
      "end where this text appears, without printing it; may be repeated");
  parser.add_flag("--no-special", options->no_special,
                  "special tokens written in the prompt (\"<|im_end|>\") are plain text");
  CLI::Option* json = parser.add_flag("--json", options->json,
                                      "write one JSON object at the end: text, token_ids, prompt_tokens, "
                                      "finish_reason (stop, length, interrupted), seed, timings, ...");
  add_number(parser, "--logprobs", options->n_logprobs, 0, kMaxLogprobs,
             "the log-probability of each generated token and its N most likely alternatives, as logprobs")
      ->needs(json);
  parser
      .add_flag("--prompt-logprobs", options->prompt_logprobs,
                "prompt_ids, and for each from the second its log-probability (prompt_logprobs) and the most likely "
                "id in its place (prompt_argmax)")
      ->needs(json);
  add_sampling_options(parser, options->sampling);
  add_device_options(parser, options->device);
  return [options] { return run_command_action(*options); };
}

}  // namespace

const Command run_command{.name = "run",
                          .summary = "Continue a text, streaming what the model writes",
                          .examples =
                              "  spate run -p 'The river was high that morning'\n"
                              "  spate run model.gguf -f prompt.txt -n 500 --temperature 0 --stop $'\\n\\n'\n"
                              "  echo 'Once upon a time' | spate run model.gguf -p - --seed 7 --json",
                          .setup = setup};

}  // namespace spate::app
