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

#include "app/chat_options.h"
#include "app/command.h"
#include "app/generate.h"
#include "app/interrupt.h"
#include "app/load.h"
#include "app/local_time.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "chat/prompt_encoder.h"
#include "chat/turn_end.h"

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
  bool chat = false;
  ChatOptions chat_options;
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

struct Prompt {
  std::vector<TokenId> tokens;
  chat::TurnEnd end;  // besides what the vocabulary and --stop say
};

// The text as the message of a user who awaits an answer.
Result<Prompt> chat_prompt(const RunOptions& options, const LoadedModel& loaded, const std::string& text) {
  SPATE_TRY(const chat::ChatTemplate chat_template, load_chat_template(loaded.model->file(), options.chat_options));
  const chat::PromptEncoder encoder(*loaded.tokenizer, chat_template, options.chat_options.trust_messages);
  const auto names = chat::TemplateNames::of(loaded.tokenizer->vocab(), local_time());
  chat::Conversation conversation;
  if (!options.chat_options.system.empty())
    conversation.messages.push_back({.role = "system", .content = sanitize_utf8(options.chat_options.system)});
  conversation.messages.push_back({.role = "user", .content = sanitize_utf8(text)});
  SPATE_TRY(const chat::Rendered rendered, chat_template.render(conversation, names));
  return Prompt{encoder.encode(rendered), chat::find_turn_end(chat_template, encoder, names)};
}

Result<Prompt> make_prompt(const RunOptions& options, const LoadedModel& loaded, const std::string& text) {
  if (options.chat) return chat_prompt(options, loaded, text);
  return Prompt{loaded.tokenizer->encode(text, {.parse_special = !options.no_special}), {}};
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
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "?";
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
          {"prompt_tokens_per_second", generation.prompt_rate(run.prompt.size())},
          {"decode_seconds", generation.decode_seconds},
          {"decode_tokens_per_second", generation.decode_rate()}};
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
                     run.prompt.size(), generation.prompt_rate(run.prompt.size()), generation.tokens.size(),
                     generation.decode_rate(), run.load_seconds, run.seed);
}

Request make_request(const RunOptions& options, const Prompt& prompt) {
  std::vector<std::string> stop_strings = options.stop;
  stop_strings.insert(stop_strings.end(), prompt.end.strings.begin(), prompt.end.strings.end());
  return {.prompt = prompt.tokens,
          .max_tokens = options.max_tokens,
          .sampling = options.sampling.resolve(),
          .logit_bias = options.sampling.logit_bias,
          .stop_strings = std::move(stop_strings),
          .stop_tokens = prompt.end.tokens,
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
    const std::string shown = out.is_terminal() ? terminal_text(text) : std::string(text);
    out.write(shown);
    if (!shown.empty()) line_open = !shown.ends_with('\n');
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
  SPATE_TRY(const Prompt prompt, make_prompt(options, loaded, text));
  if (prompt.tokens.empty())
    return Error::usage("the prompt is empty, and this model adds no BOS token; give it some text");
  const ModelSpec& spec = loaded.model->spec();
  SPATE_TRY(const int context, context_for(options, spec.context_length, prompt.tokens.size()));
  const int step_tokens = std::min(static_cast<int>(prompt.tokens.size()), kPromptStepTokens);
  SPATE_TRY(const std::unique_ptr<Executor> executor,
            make_executor(
                loaded.model, options.device,
                {.max_seqs = 1, .max_step_tokens = step_tokens, .n_pages = (context + kPageTokens - 1) / kPageTokens}));
  Engine engine(*executor, loaded.tokenizer.get(), {.vocab_size = spec.vocab_size, .context_tokens = context});
  Request request = make_request(options, prompt);
  const Run run{.options = options,
                .loaded = loaded,
                .executor = *executor,
                .prompt = prompt.tokens,
                .seed = request.sampling.seed,
                .load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
  return run_request(run, engine, std::move(request));
}

Action setup_run(CLI::App& parser) {
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
  CLI::Option* no_special = parser.add_flag("--no-special", options->no_special,
                                            "special tokens written in the prompt (\"<|im_end|>\") are plain text");
  CLI::Option* chat = parser.add_flag("--chat", options->chat, "the prompt is a message, and the model answers it")
                          ->excludes(no_special)
                          ->group(kChatGroup);
  add_chat_options(parser, options->chat_options, [chat](CLI::Option* option) { option->needs(chat); });
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
                              "  spate run model.gguf --chat --system 'Be brief.' -p 'Why is the sky blue?'\n"
                              "  echo 'Once upon a time' | spate run model.gguf -p - --seed 7 --json",
                          .setup = setup_run};

}  // namespace spate::app
