// spate load: how a server of the OpenAI API does under load.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/list_option.h"
#include "app/load_report.h"
#include "app/options.h"
#include "app/progress_bar.h"
#include "app/standard_output.h"
#include "base/file.h"

#include "load/load_run.h"

namespace spate::app {

namespace {

using load::Arrivals;
using load::Lengths;

constexpr const char* kArrivalGroup = "Arrivals";
constexpr const char* kRequestGroup = "Requests";
constexpr const char* kServerGroup = "Server";
constexpr int kMaxClients = 50'000;
constexpr int kRequestsPerClient = 12;  // with fewer, the beginning and the end say more than what lies between
constexpr double kDefaultSeconds = 30;  // of an open loop
constexpr double kMaxSeconds = 1e6;
constexpr uint64_t kMaxTraceBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxKeyBytes = 4096;

struct CommandOptions {
  std::string url;
  std::vector<int> clients;
  std::vector<double> rates;
  std::string trace;
  int64_t n_requests = 0;
  double seconds = 0;
  int n_warmup = 1;
  load::WorkloadOptions workload;
  load::RequestOptions request;
  double timeout_s = 300;
  std::string api_key, api_key_file;
  load::HttpClientOptions http;
  bool json = false;
  std::string plot;
};

// ---- what the options mean

// The key as a file holds it, with or without a newline at its end.
Result<std::string> key_of(const CommandOptions& options) {
  std::string key = options.api_key;
  if (!options.api_key_file.empty()) {
    SPATE_TRY(key, read_regular_file(options.api_key_file, kMaxKeyBytes));
    while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.pop_back();
    if (key.empty()) return Error::usage(fmt::format("{}: there is no key in it", options.api_key_file));
  }
  if (std::any_of(key.begin(), key.end(), [](char c) { return c <= ' ' || c >= 0x7f; }))
    return Error::usage("the API key has characters that no header of a request may have");
  return key;
}

Result<void> read_trace(CommandOptions& options, bool& has_times) {
  SPATE_TRY(const std::string text, read_regular_file(options.trace, kMaxTraceBytes));
  SPATE_TRY(load::Trace trace, load::Trace::parse(text, options.trace));
  options.workload.trace = std::move(trace.entries);
  has_times = trace.has_times;
  return {};
}

// The levels that the options ask for. trace_has_times: there is a trace, and it says when requests come.
std::vector<load::LevelOptions> levels_of(const CommandOptions& options, bool trace_has_times,
                                          const std::string& api_key) {
  load::LevelOptions common{.n_requests = options.n_requests,
                            .seconds = options.seconds,
                            .timeout_s = options.timeout_s,
                            .request = options.request};
  if (!api_key.empty()) common.headers.emplace_back("Authorization", "Bearer " + api_key);
  const bool has_bound = options.n_requests > 0 || options.seconds > 0;
  const auto n_in_trace = static_cast<int64_t>(options.workload.trace.size());
  std::vector<load::LevelOptions> levels;
  const auto add = [&](Arrivals arrivals) -> load::LevelOptions& {
    common.arrivals = arrivals;
    common.index = static_cast<int>(levels.size()) + 1;
    levels.push_back(common);
    if (!has_bound) levels.back().n_requests = n_in_trace;
    return levels.back();
  };
  for (const double rate : options.rates) {
    load::LevelOptions& level = add(Arrivals::kPoisson);
    level.rate = rate;
    if (!has_bound && n_in_trace == 0) level.seconds = kDefaultSeconds;
  }
  if (trace_has_times && options.rates.empty() && options.clients.empty()) add(Arrivals::kTrace);
  std::vector<int> clients = options.clients;
  if (levels.empty() && clients.empty()) clients = {1, 4, 16, 64};
  for (const int n_clients : clients) {
    load::LevelOptions& level = add(Arrivals::kClosed);
    level.clients = n_clients;
    if (!has_bound && n_in_trace == 0) level.n_requests = int64_t{kRequestsPerClient} * n_clients;
  }
  return levels;
}

LoadLevel named(const load::LevelOptions& options) {
  LoadLevel level{.name = "trace", .x = 0, .arrivals = options.arrivals, .summary = {}};
  if (options.arrivals == Arrivals::kClosed) {
    level.x = options.clients;
    level.name = fmt::format("{} client{}", options.clients, options.clients == 1 ? "" : "s");
  } else if (options.arrivals == Arrivals::kPoisson) {
    level.x = options.rate;
    level.name = fmt::format("{:g} requests/s", options.rate);
  }
  return level;
}

std::string_view unit_name(load::PromptUnit unit) {
  switch (unit) {
    case load::PromptUnit::kLetter:
      return "letters";
    case load::PromptUnit::kWord:
      return "words";
    case load::PromptUnit::kId:
      return "ids";
  }
  SPATE_CHECK(false, "a unit of no kind");
}

LoadSetup setup_of(const CommandOptions& options) {
  const load::WorkloadOptions& workload = options.workload;
  const bool traced = !options.trace.empty();
  return {.url = options.url,
          .api = options.request.api == load::Api::kChat ? "chat" : "completions",
          .model = options.request.model,
          .prompt = traced ? options.trace : workload.prompt.text(),
          .output = traced ? options.trace : workload.output.text(),
          .unit = std::string(unit_name(workload.unit)),
          .shared_prefix = workload.shared_prefix,
          .n_prefixes = workload.n_prefixes,
          .temperature = options.request.temperature,
          .seed = workload.seed};
}

// ---- running

// Every connection takes a file descriptor, of which a process may have 1,024 by default.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// The server's first work after a start is not what is to be measured; and a server that is not there should be found
// out before everything else.
Result<void> warm_up(load::HttpClient& client, const std::string& target, const load::Workload& workload,
                     load::LevelOptions level, const CommandOptions& options, const load::OnLevelProgress& progress) {
  level.arrivals = Arrivals::kClosed;
  level.clients = 1;
  level.n_requests = options.n_warmup;
  level.seconds = 0;
  level.index = 0;
  SPATE_TRY(const load::LevelResult result, run_level(client, target, workload, level, progress));
  for (const load::RequestRecord& request : result.requests)
    if (!request.failure.empty())
      return Error::io(options.url,
                       fmt::format("a request before the load failed: {}: {}", request.failure, request.detail));
  return {};
}

// Fewer levels than were asked for where nobody reads them.
Result<std::vector<LoadLevel>> run_levels(load::HttpClient& client, const std::string& target,
                                          const CommandOptions& options, const std::vector<load::LevelOptions>& levels,
                                          StandardOutput& out) {
  const load::Workload workload(options.workload);
  const InterruptGuard interrupt;
  ProgressBar bar("load");
  const auto progress = [&](const load::LevelProgress& now) {
    bar.update(now.fraction, fmt::format("{} running, {} done, {} failed", now.n_in_flight, now.n_ended, now.n_failed));
    return !interrupt.interrupted() && !out.failed();
  };
  if (options.n_warmup > 0) {
    const Result<void> warm = warm_up(client, target, workload, levels.front(), options, progress);
    if (out.failed()) return std::vector<LoadLevel>();
    if (!warm) return warm.error();
  }
  std::vector<LoadLevel> done;
  if (!options.json) out.write(load_table_header());
  for (const load::LevelOptions& level : levels) {
    const Result<load::LevelResult> result = run_level(client, target, workload, level, progress);
    if (out.failed()) return done;
    if (!result) return result.error();
    done.push_back(named(level));
    done.back().summary = summarise(*result);
    bar.clear();
    if (!options.json) out.write(load_table_row(done.back()));
  }
  return done;
}

Result<void> check_options(const CommandOptions& options) {
  if (options.workload.unit == load::PromptUnit::kId && options.request.api == load::Api::kChat)
    return Error::usage("--prompt-as ids:N needs --api completions; messages of a chat are text");
  return check_request_options(options.request);
}

Result<void> run_load(CommandOptions options) {
  SPATE_TRY(const load::Url url, load::Url::parse(options.url));
  SPATE_TRY_VOID(check_options(options));
  SPATE_TRY(const std::string api_key, key_of(options));
  bool trace_has_times = false;
  if (!options.trace.empty()) SPATE_TRY_VOID(read_trace(options, trace_has_times));
  if (!options.plot.empty()) SPATE_TRY_VOID(AtomicFile::create(options.plot));  // may it be written?
  const std::vector<load::LevelOptions> levels = levels_of(options, trace_has_times, api_key);
  raise_descriptor_limit();
  SPATE_TRY(const std::unique_ptr<load::HttpClient> client, load::HttpClient::create(url, options.http));

  StandardOutput out;
  SPATE_TRY(const std::vector<LoadLevel> done,
            run_levels(*client, url.target(endpoint_of(options.request.api)), options, levels, out));
  if (out.failed()) return out.finish();
  const LoadSetup setup = setup_of(options);
  if (options.json) out.write(json_line(load_json(setup, done)));
  SPATE_TRY_VOID(out.finish());
  if (std::none_of(done.begin(), done.end(), [](const LoadLevel& level) { return level.summary.n_ok > 0; }))
    return Error::io(options.url, "no request succeeded");
  if (options.plot.empty()) return {};
  SPATE_TRY(AtomicFile plot, AtomicFile::create(options.plot));
  SPATE_TRY_VOID(plot.write(load_chart(setup, done)));
  return plot.commit();
}

// ---- the command line

void add_lengths(CLI::App& parser, const std::string& name, Lengths& lengths, const std::string& description) {
  parser
      .add_option_function<std::string>(
          name,
          [name, &lengths](const std::string& text) {
            Result<Lengths> parsed = Lengths::parse(text);
            if (!parsed) throw CLI::ValidationError(name, parsed.error().message);
            lengths = std::move(*parsed);
          },
          description)
      ->type_name("DIST")
      ->group(kRequestGroup);
}

void add_arrival_options(CLI::App& parser, CommandOptions& options) {
  const auto in_group = [](CLI::Option* option) { option->group(kArrivalGroup); };
  CLI::Option* clients =
      add_list(parser, "--clients", options.clients, 1, kMaxClients,
               "closed loop: so many clients, each sending one request after the other; a list is that many loads in "
               "turn; default 1,4,16,64");
  CLI::Option* rate = add_list(parser, "--rate", options.rates, 1e-6, 1e6,
                               "open loop: so many requests a second, at random times (a Poisson process), whether or "
                               "not those before have been answered");
  rate->excludes(clients);
  in_group(clients);
  in_group(rate);
  in_group(parser
               .add_option("--trace", options.trace,
                           "lengths of requests and, without --clients and --rate, their times: lines of JSON, "
                           R"({"timestamp": ms, "input_length": tokens, "output_length": tokens})")
               ->type_name("FILE"));
  in_group(add_number(parser, "--requests", options.n_requests, 1, int64_t{1} << 40,
                      "requests of each load; default: 12 a client, those of a trace"));
  in_group(add_number(parser, "--seconds", options.seconds, 1e-3, kMaxSeconds,
                      "begin no request after that; what runs then is waited for; default with --rate: 30"));
  in_group(add_number(parser, "--warmup", options.n_warmup, 0, 1'000'000, "requests before those; default 1"));
  in_group(add_number(parser, "--seed", options.workload.seed, 0, std::numeric_limits<uint64_t>::max(),
                      "the same seed asks for the same at the same times; default 1"));
}

void add_request_options(CLI::App& parser, CommandOptions& options) {
  const auto in_group = [](CLI::Option* option) { option->group(kRequestGroup); };
  add_lengths(parser, "--prompt", options.workload.prompt,
              "tokens of a prompt: fixed:512, uniform:100-900, exponential:MEAN[,MAX], lognormal:MEDIAN,SIGMA[,MAX]; "
              "default 512");
  add_lengths(parser, "--output", options.workload.output, "tokens of an answer, likewise; default 128");
  const auto parse_unit = [&workload = options.workload](const std::string& text) {
    constexpr std::string_view kIds = "ids:";
    if (text == "letters") {
      workload.unit = load::PromptUnit::kLetter;
    } else if (text == "words") {
      workload.unit = load::PromptUnit::kWord;
    } else {
      const auto n_ids =
          text.starts_with(kIds) ? parse_number<int>(std::string_view(text).substr(kIds.size())) : std::nullopt;
      if (!n_ids || *n_ids < 1)
        throw CLI::ValidationError("--prompt-as", fmt::format("'{}' is neither letters, nor words, nor ids:N", text));
      workload.unit = load::PromptUnit::kId;
      workload.n_ids = *n_ids;
    }
  };
  in_group(parser
               .add_option_function<std::string>("--prompt-as", parse_unit,
                                                 "what stands for a token in prompts: letters (default), words, or "
                                                 "ids:N, random token ids below N")
               ->type_name("UNIT"));
  in_group(add_number(parser, "--shared-prefix", options.workload.shared_prefix, 0, load::kMaxLength,
                      "tokens that prompts have in common from their beginning; default 0"));
  in_group(add_number(parser, "--prefixes", options.workload.n_prefixes, 1, 1'000'000,
                      "different ones, each prompt with one of them; default 1"));
  in_group(parser
               .add_option_function<std::string>(
                   "--api",
                   [&request = options.request](const std::string& text) {
                     if (text != "chat" && text != "completions")
                       throw CLI::ValidationError("--api", fmt::format("'{}' is neither completions nor chat", text));
                     request.api = text == "chat" ? load::Api::kChat : load::Api::kCompletions;
                   },
                   "completions (default) or chat")
               ->type_name("NAME"));
  in_group(parser.add_option("--model", options.request.model, "the model to ask for; default \"default\"")
               ->type_name("NAME"));
  in_group(add_number(parser, "--temperature", options.request.temperature, 0, 100, "default 0"));
  in_group(parser.add_flag_callback(
      "--stop-at-eos", [&request = options.request] { request.ignore_eos = false; },
      "let answers end before their length; by default requests have ignore_eos, which not every server knows"));
  in_group(parser.add_option("--extra", options.request.more, "a JSON object whose members are added to each request")
               ->type_name("JSON"));
  in_group(add_number(parser, "--timeout", options.timeout_s, 1e-3, kMaxSeconds,
                      "seconds that a request may take; default 300"));
}

void add_server_options(CLI::App& parser, CommandOptions& options) {
  const auto in_group = [](CLI::Option* option) { option->group(kServerGroup); };
  CLI::Option* key = parser.add_option("--api-key", options.api_key, "sent as the bearer token")->type_name("KEY");
  CLI::Option* file =
      parser.add_option("--api-key-file", options.api_key_file, "a file that holds it")->type_name("FILE");
  file->excludes(key);
  in_group(key);
  in_group(file);
  CLI::Option* ca =
      parser
          .add_option("--ca-file", options.http.ca_file, "certificates to trust with https, PEM; default: the system's")
          ->type_name("FILE");
  CLI::Option* insecure = parser.add_flag_callback(
      "--insecure", [&http = options.http] { http.verify = false; }, "take any certificate");
  insecure->excludes(ca);
  in_group(ca);
  in_group(insecure);
}

Action setup(CLI::App& parser) {
  auto options = std::make_shared<CommandOptions>();
  parser.add_option("URL", options->url, "the server, http://HOST:PORT, with or without /v1")
      ->required()
      ->type_name("");
  add_arrival_options(parser, *options);
  add_request_options(parser, *options);
  add_server_options(parser, *options);
  parser.add_flag("--json", options->json,
                  "write one JSON object: levels of out_tok_s, ttft_ms, gap_ms, failures, ...");
  parser.add_option("--plot", options->plot, "also draw the figures, as SVG")
      ->type_name("FILE.svg")
      ->check([](const std::string& name) {
        return name.ends_with(".svg") ? ""
                                      : fmt::format("'{}' does not end in .svg, as the name of a chart does", name);
      });
  return [options] { return run_load(*options); };
}

}  // namespace

const Command load_command{.name = "load",
                           .summary = "Put a server of the OpenAI API under load and measure how it does",
                           .examples =
                               "  spate load http://127.0.0.1:8080 --clients 1,8,32 --prompt 512 --output 128\n"
                               "  spate load http://127.0.0.1:8080 --rate 5 --seconds 60 --prompt lognormal:512,0.8\n"
                               "  spate load https://host/v1 --api chat --model NAME --trace trace.jsonl --json",
                           .setup = setup};

}  // namespace spate::app
