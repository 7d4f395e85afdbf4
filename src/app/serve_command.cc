// spate serve: a model behind an OpenAI-compatible HTTP API.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <sys/resource.h>
#include <utility>

#include "app/build_info.h"
#include "app/command.h"
#include "app/load.h"
#include "app/serve_options.h"
#include "app/serve_signals.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/cgroup.h"
#include "base/log.h"
#include "server/http/text.h"
#include "server/page/page.h"
#include "server/server.h"

namespace spate::app {

namespace {

constexpr int kGpuStepTokens = 4096, kCpuStepTokens = 512;

// Every connection is a file. The soft limit is low for the sake of old programs that use select().
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Result<std::unique_ptr<Executor>> make_serving_executor(const ServeOptions& options,
                                                        const std::shared_ptr<const Model>& model, int context) {
  DeviceOptions device = options.device;
  ExecutorLimits limits{.max_seqs = options.max_seqs,
                        .max_step_tokens = options.step_tokens,
                        .n_pages = static_cast<int>((options.kv_tokens + kPageTokens - 1) / kPageTokens)};
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(device));
  if (!cpu) {
    ExecutorLimits on_gpu = limits;  // n_pages = 0: the memory that is left
    if (on_gpu.max_step_tokens == 0) on_gpu.max_step_tokens = std::max(kGpuStepTokens, options.max_seqs);
    if (device.device == "auto") device.device = "cuda";
    Result<std::unique_ptr<Executor>> executor = make_executor(model, device, on_gpu);
    if (executor || options.device.device != "auto" || executor.error().code != ErrorCode::kUnsupported)
      return executor;
    log::warn("running on the CPU: {}", executor.error().message);
  }
  device.device = "cpu";
  if (limits.max_step_tokens == 0) limits.max_step_tokens = std::max(kCpuStepTokens, options.max_seqs);
  if (limits.n_pages == 0)
    limits.n_pages = default_cpu_pages(
        {.page_bytes = model->spec().kv_elems_per_token() * kPageTokens * static_cast<int64_t>(sizeof(uint16_t)),
         .weight_bytes = model->weight_bytes_per_token(),
         .memory_bytes = static_cast<int64_t>(usable_memory_bytes()),
         .context = context,
         .context_asked = options.context > 0,
         .max_seqs = options.max_seqs});
  return make_executor(model, device, limits);
}

Result<server::Loaded> load_served(const ServeOptions& options) {
  SPATE_TRY(LoadedModel loaded, load_model(options.model));
  const ModelSpec& spec = loaded.model->spec();
  const int context = options.context > 0 ? options.context : spec.context_length;
  if (context > spec.context_length)
    log::warn("--ctx {} is beyond the {} positions that the model was trained on", context, spec.context_length);
  Result<chat::ChatTemplate> chat_template = load_chat_template(loaded.model->file(), options.chat);
  const bool asked = !options.chat.template_file.empty() || !options.chat.template_name.empty();
  if (!chat_template && asked) return chat_template.error();
  if (!chat_template) log::warn("requests with messages will be refused: {}", chat_template.error().message);
  SPATE_TRY(std::unique_ptr<Executor> executor, make_serving_executor(options, loaded.model, context));
  const int64_t pool_tokens = int64_t{executor->limits().n_pages} * kPageTokens;
  if (options.context > pool_tokens)
    log::warn("--ctx {} is more than the KV cache holds: a request may have {} tokens", options.context, pool_tokens);
  api::ServedModelOptions served{.names = options.aliases,
                                 .created = static_cast<int64_t>(std::time(nullptr)),
                                 .context_tokens = static_cast<int>(std::min<int64_t>(context, pool_tokens)),
                                 .vocab_size = spec.vocab_size,
                                 .d_model = spec.d_model,
                                 .pooling = options.pooling == "mean" ? Pooling::kMean : Pooling::kLast,
                                 .trust_messages = options.chat.trust_messages};
  served.names.push_back(std::filesystem::path(loaded.model->file().path()).stem().string());
  const EngineOptions engine{
      .vocab_size = spec.vocab_size, .context_tokens = context, .max_decode_stretch = options.max_decode_stretch};
  std::shared_ptr<const Tokenizer> tokenizer = std::move(loaded.tokenizer);
  std::optional<chat::ChatTemplate> served_template;
  if (chat_template) served_template = std::move(chat_template).value();
  return server::Loaded{.executor = std::move(executor),
                        .model = std::make_shared<const api::ServedModel>(
                            std::move(tokenizer), std::move(served_template), std::move(served)),
                        .engine = engine,
                        .queue = options.queue};
}

std::string url_of(const http::HttpOptions& http, uint16_t port) {
  const bool is_ipv6 = http.host.find(':') != std::string::npos;
  return fmt::format("{}://{}:{}", http.tls.certificate_file.empty() ? "http" : "https",
                     is_ipv6 ? "[" + http.host + "]" : http.host, port);
}

// The one line on stdout: that requests are taken, and where.
std::string announcement(const ServeOptions& options, const server::Loaded& loaded, uint16_t port) {
  const ExecutorLimits& limits = loaded.executor->limits();
  return fmt::format("serving {} at {} ({}; {} at a time, context {}, KV cache {} tokens)\n",
                     escape_control(loaded.model->name()), url_of(options.server.http, port),
                     loaded.executor->description(), limits.max_seqs, loaded.model->options().context_tokens,
                     int64_t{limits.n_pages} * kPageTokens);
}

// The server that a signal asks to end.
class DrainTarget {
 public:
  void set(server::Server* server) {
    const std::lock_guard lock(mutex_);
    server_ = server;
  }
  // False: there is none. Does not return while a model is being loaded: that cannot be broken off, but need not end.
  bool drain() {
    const std::lock_guard lock(mutex_);
    if (server_ == nullptr) return false;
    server_->drain();
    if (server_->ends_before_serving()) std::_Exit(EXIT_SUCCESS);
    return true;
  }

 private:
  std::mutex mutex_;
  server::Server* server_ = nullptr;
};

// A device that hangs may never give its thread back, and no destructor that waits for it would return.
[[noreturn]] void end_without_destructors(const Result<void>& result) {
  if (result) std::_Exit(EXIT_SUCCESS);
  std::fprintf(stderr, "spate: %s\n", escape_control(result.error().message).c_str());
  std::_Exit(static_cast<int>(result.error().code));
}

Result<void> serve(const ServeOptions& given) {
  ServeOptions options = given;
  SPATE_TRY_VOID(collect_api_keys(options));
  options.server.version = SPATE_VERSION;
  options.server.commit = build_commit();
  options.server.assets = server::page_assets();
  raise_file_limit();
  if (const http::HttpOptions& http = options.server.http; http.api_keys.empty() && !http::is_loopback(http.host))
    log::warn("there are no API keys: whoever reaches {} may use this server", http.host);

  DrainTarget target;
  const ServeSignals signals([&target] { return target.drain(); });
  SPATE_TRY(const std::unique_ptr<server::Server> server, server::Server::start(options.server));
  log::info("listening at {}", url_of(options.server.http, server->port()));
  target.set(server.get());
  Result<server::Loaded> loaded = load_served(options);
  if (!loaded) {
    target.set(nullptr);
    return loaded.error();
  }
  const std::string line = announcement(options, *loaded, server->port());
  server->serve(std::move(*loaded));
  StandardOutput out;
  out.write(line);
  if (const Result<void> written = out.finish(); !written)
    log::warn("{}; serving at {} all the same", written.error().message, url_of(options.server.http, server->port()));
  const Result<void> result = server->wait();
  target.set(nullptr);
  if (server->step_runs_on()) end_without_destructors(result);
  return result;
}

Action setup(CLI::App& parser) {
  auto options = std::make_shared<ServeOptions>();
  add_serve_options(parser, *options);
  return [options] { return serve(*options); };
}

}  // namespace

const Command serve_command{
    .name = "serve",
    .summary = "Serve a model over HTTP, as the OpenAI API does",
    .examples =
        "  spate serve model.gguf\n"
        "  spate serve model.gguf --host 0.0.0.0 --api-key-file keys.txt --max-seqs 128\n"
        "  spate serve --port 0 --alias gpt-4o-mini\n"
        "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
    .setup = setup};

}  // namespace spate::app
