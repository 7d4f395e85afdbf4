// spate chat: a conversation with a model.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "app/chat_loop.h"
#include "app/chat_options.h"
#include "app/chat_session.h"
#include "app/command.h"
#include "app/load.h"
#include "app/options.h"
#include "app/text_format.h"
#include "base/env_options.h"
#include "base/log.h"

namespace spate::app {

namespace {

constexpr int kPromptStepTokens = 512;  // as in `spate run`
// What the KV cache is made for where --ctx does not say: a model trained on 128k positions would otherwise take more
// memory for a conversation than for its weights.
constexpr int kDefaultContext = 8192;

struct ChatCommandOptions {
  std::string model;
  int max_tokens = 0;  // 0: until the window is full
  int context = 0;     // 0: what the model was trained on, at most kDefaultContext
  std::vector<std::string> stop;
  bool drop_oldest = false;
  bool commands = false;
  bool no_history = false;
  ChatOptions chat;
  SamplingOptions sampling;
  DeviceOptions device;
};

int window_for(const ChatCommandOptions& options, int trained_context) {
  if (options.context > trained_context)
    log::warn("--ctx {} is beyond the {} positions that the model was trained on", options.context, trained_context);
  return options.context > 0 ? options.context : std::min(trained_context, kDefaultContext);
}

// The history of what was typed, if it is wanted and can be had.
std::unique_ptr<InputHistory> open_history(const ChatCommandOptions& options) {
  const std::string path = InputHistory::default_path();
  if (options.no_history || path.empty()) return nullptr;
  Result<InputHistory> history = InputHistory::open(path);
  if (history) return std::make_unique<InputHistory>(std::move(*history));
  log::warn("{}; what is typed is not kept", history.error().message);
  return nullptr;
}

// Reads from a terminal or whatever standard input is, and runs the conversation.
Result<void> converse(const ChatCommandOptions& options, ChatSession& session, const std::string& model) {
  const bool interactive = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  const std::string& term = env_options().term;
  const bool can_edit = interactive && !term.empty() && term != "dumb";
  const std::unique_ptr<InputHistory> history = can_edit ? open_history(options) : nullptr;
  ChatSignals signals;
  const std::unique_ptr<LineInput> input =
      can_edit ? terminal_input(signals, history.get()) : plain_input(signals, interactive);
  if (interactive)
    StandardOutput().write(
        fmt::format("{}, a window of {} tokens. /help lists the commands.\n", escape_control(model), session.window()));
  // What is piped in may come from anywhere, and a line of it should not write files.
  const bool commands = options.commands || isatty(STDIN_FILENO) != 0;
  return ChatLoop(session, *input, signals,
                  {.interactive = interactive, .commands = commands, .drop_oldest = options.drop_oldest})
      .run();
}

Result<void> chat(const ChatCommandOptions& options) {
  SPATE_TRY(const LoadedModel loaded, load_model(options.model));
  SPATE_TRY(chat::ChatTemplate chat_template, load_chat_template(loaded.model->file(), options.chat));
  const ModelSpec& spec = loaded.model->spec();
  const int window = window_for(options, spec.context_length);
  SPATE_TRY(const std::unique_ptr<Executor> executor,
            make_executor(loaded.model, options.device,
                          {.max_seqs = 1,
                           .max_step_tokens = std::min(window, kPromptStepTokens),
                           .n_pages = (window + kPageTokens - 1) / kPageTokens}));
  Engine engine(*executor, loaded.tokenizer.get(),
                {.vocab_size = spec.vocab_size, .context_tokens = window, .kv_reuse = KvReuse::kOneConversation});
  ChatSettings settings{.sampling = options.sampling.resolve(),
                        .logit_bias = options.sampling.logit_bias,
                        .stop_strings = options.stop,
                        .max_tokens = {},
                        .trust_messages = options.chat.trust_messages};
  if (options.max_tokens > 0) settings.max_tokens = options.max_tokens;
  ChatSession session(engine, *loaded.tokenizer, std::move(chat_template), std::move(settings));
  session.set_system(options.chat.system);
  return converse(options, session, loaded.model->file().path());
}

Action setup_chat(CLI::App& parser) {
  auto options = std::make_shared<ChatCommandOptions>();
  add_model_option(parser, options->model);
  add_number(parser, "-n,--max-tokens", options->max_tokens, 1, std::numeric_limits<int>::max(),
             "tokens of an answer at most; default: until the window is full");
  add_number(parser, "--ctx", options->context, 1, std::numeric_limits<int>::max() / 2,
             "the window: tokens that the conversation may have; default: what the model was trained on, at most 8192");
  add_repeatable(
      parser, "--stop", [options](const std::string& text) { options->stop.push_back(text); },
      "end an answer where this text appears, without printing it; may be repeated");
  parser.add_flag("--drop-oldest", options->drop_oldest,
                  "when the window is full, drop the oldest turns without asking");
  parser.add_flag("--commands", options->commands,
                  "obey lines that begin with / (/save, /load, ...; /help lists them) also where they do not come from "
                  "a terminal; by default such lines are messages there");
  parser.add_flag("--no-history", options->no_history,
                  "keep nothing of what is typed; by default it goes to spate/chat_history under XDG_STATE_HOME "
                  "(~/.local/state), for recall");
  add_chat_options(parser, options->chat);
  add_sampling_options(parser, options->sampling);
  add_device_options(parser, options->device);
  return [options] { return chat(*options); };
}

}  // namespace

const Command chat_command{.name = "chat",
                           .summary = "Talk with a model",
                           .examples =
                               "  spate chat model.gguf\n"
                               "  spate chat model.gguf --system 'Answer in one sentence.' --temperature 0.3\n"
                               "  spate chat model.gguf < questions.txt > answers.txt",
                           .setup = setup_chat};

}  // namespace spate::app
