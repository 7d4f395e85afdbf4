#include "app/serve_options.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "base/env_options.h"
#include "base/file.h"
#include "server/http/text.h"

namespace spate::app {

namespace {

constexpr const char* kNetworkGroup = "Network";
constexpr const char* kAccessGroup = "Access";
constexpr const char* kCapacityGroup = "Capacity";
constexpr const char* kLimitsGroup = "Limits";

constexpr double kMaxSeconds = 1e6;
constexpr int64_t kMaxBytes = int64_t{1} << 40;

// An option that takes a time in seconds.
CLI::Option* add_seconds(CLI::App& parser, const std::string& name, std::chrono::milliseconds& value, double min,
                         const std::string& description) {
  const auto parse = [&value, name, min](const std::string& text) {
    const std::optional<double> seconds = parse_number<double>(text);
    if (!seconds || *seconds < min || *seconds > kMaxSeconds)
      throw CLI::ValidationError(name,
                                 fmt::format("'{}' is no number of seconds from {} to {}", text, min, kMaxSeconds));
    value = std::chrono::milliseconds(static_cast<int64_t>(*seconds * 1000));
  };
  const std::string by_default =
      fmt::format("{}; default {:g}", description, static_cast<double>(value.count()) / 1000);
  return parser.add_option_function<std::string>(name, parse, by_default)->type_name("SECONDS");
}

// As browsers write it in Origin (RFC 6454, 6.2): with a path, be it "/", it would never be equal to theirs.
void check_origin(const std::string& origin) {
  if (origin == "*" || origin == "null") return;
  constexpr std::string_view kBehindScheme = "://";
  const size_t scheme_end = origin.find(kBehindScheme);
  const bool has_scheme = scheme_end != std::string::npos && scheme_end > 0;
  const std::string host = has_scheme ? origin.substr(scheme_end + kBehindScheme.size()) : "";
  if (host.empty() || host.find_first_of("/?# ") != std::string::npos)
    throw CLI::ValidationError("--cors-origin",
                               fmt::format("'{}' is no origin such as https://example.org, without a path", origin));
}

void check_host_name(const std::string& name) {
  if (http::host_of(name).empty() || name.find_first_of("/ ") != std::string::npos)
    throw CLI::ValidationError("--allowed-host", fmt::format("'{}' is no name of a host such as example.org", name));
}

void add_network_options(CLI::App& parser, http::HttpOptions& http) {
  const auto in_group = [](CLI::Option* option) { option->group(kNetworkGroup); };
  in_group(parser.add_option("--host", http.host, "the address to listen on; default 127.0.0.1, this machine alone")
               ->type_name("ADDRESS"));
  in_group(add_number(parser, "--port", http.port, 0, 65535, "default 8080; 0 picks a free one"));
  in_group(
      parser.add_option("--tls-cert", http.tls.certificate_file, "serve HTTPS: the certificate and its chain, PEM")
          ->type_name("FILE"));
  in_group(parser.add_option("--tls-key", http.tls.key_file, "the certificate's key, PEM, without a passphrase")
               ->type_name("FILE"));
  in_group(add_repeatable(
               parser, "--cors-origin",
               [&http](const std::string& origin) {
                 check_origin(origin);
                 http.cors_origins.push_back(origin);
               },
               "let pages of this origin call from browsers; * lets all; may be repeated; default: none")
               ->type_name("ORIGIN"));
  in_group(add_repeatable(
               parser, "--allowed-host",
               [&http](const std::string& name) {
                 check_host_name(name);
                 http.allowed_hosts.push_back(name);
               },
               "a name that clients may call the server by, besides this machine's own, such as a proxy's; * allows "
               "all; may be repeated; default: on a loopback address without keys none, elsewhere all")
               ->type_name("NAME"));
  in_group(add_number(parser, "--io-threads", http.n_io_threads, 1, 64, "threads that carry connections; default 2"));
  in_group(
      add_number(parser, "--workers", http.n_workers, 1, 64, "threads that read requests and make prompts; default 2"));
  in_group(add_number(parser, "--backlog", http.backlog, 1, 65535,
                      "connections that the system keeps until they are accepted; default 1024"));
}

void add_access_options(CLI::App& parser, ServeOptions& options) {
  const auto in_group = [](CLI::Option* option) { option->group(kAccessGroup); };
  in_group(add_repeatable(
               parser, "--api-key", [&options](const std::string& key) { options.api_keys.push_back(key); },
               "a key that clients must show; may be repeated. Other users can read it in the list of processes: a "
               "file or SPATE_API_KEY keep it from them")
               ->type_name("KEY"));
  in_group(parser
               .add_option("--api-key-file", options.api_key_file,
                           "a file of keys, one a line, each with the highest priority that it may ask for behind a "
                           "space where that is not --max-priority; # begins a comment, but not within a key")
               ->type_name("FILE"));
  in_group(add_number(parser, "--max-priority", options.server.api.max_priority, kMinPriority, kMaxPriority,
                      "the highest priority that requests may ask for; default 0"));
  in_group(add_repeatable(
               parser, "--alias", [&options](const std::string& name) { options.aliases.push_back(name); },
               "a name for the model, the first of them the one in answers; may be repeated; default: the file's")
               ->type_name("NAME"));
  in_group(parser.add_flag("--strict-model", options.server.api.strict_model,
                           "answer requests for other models with 404; by default the served one answers them"));
}

void add_capacity_options(CLI::App& parser, ServeOptions& options) {
  constexpr int kMany = 1 << 20;
  const auto in_group = [](CLI::Option* option) { option->group(kCapacityGroup); };
  in_group(
      add_number(parser, "--ctx", options.context, 1, std::numeric_limits<int>::max() / 2,
                 "tokens that one request may have, prompt and answer; default: what the model was trained on, or the "
                 "KV cache holds"));
  in_group(add_number(parser, "--max-seqs", options.max_seqs, 1, 4096, "answers computed at a time; default 64"));
  in_group(add_number(parser, "--kv-tokens", options.kv_tokens, 1, int64_t{1} << 30,
                      "tokens that the KV cache holds, of all requests; default: what is left of a GPU's memory, or "
                      "what fits in a quarter of what this process may have of the machine's"));
  in_group(add_number(parser, "--step-tokens", options.step_tokens, 1, 65536,
                      "tokens of a step at most; default 4096 on a GPU, 512 on the CPU"));
  in_group(
      add_number(parser, "--max-decode-stretch", options.max_decode_stretch, 0, 1000,
                 fmt::format("how many times as long as a step of decodes alone one may take that reads prompts too; "
                             "0: any; default {:g}",
                             kDefaultDecodeStretch)));
  in_group(add_number(parser, "--max-queue", options.queue.max_choices, 1, kMany,
                      "answers that may wait; beyond them 429; default 256"));
  in_group(add_number(parser, "--max-queue-tokens", options.queue.max_tokens, 1, std::numeric_limits<int64_t>::max(),
                      "prompt tokens that may wait; beyond them 429; default 1048576"));
  in_group(parser.add_option("--pooling", options.pooling, "of embeddings: mean (default), last")
               ->check(CLI::IsMember({"mean", "last"}))
               ->type_name("NAME"));
}

void add_limit_options(CLI::App& parser, server::ServerOptions& options) {
  http::HttpOptions& http = options.http;
  const auto in_group = [](CLI::Option* option) { option->group(kLimitsGroup); };
  in_group(add_number(parser, "--max-connections", http.max_connections, 1, 1 << 20, "default 8192; beyond them 503"));
  in_group(add_number(parser, "--max-header-bytes", http.max_header_bytes, 256, 1 << 20,
                      "of a request; default 16384; beyond them 431"));
  in_group(add_number(parser, "--max-body-bytes", http.max_body_bytes, 1, kMaxBytes,
                      "of a request; default 16777216; beyond them 413"));
  in_group(add_number(parser, "--max-bodies-bytes", http.max_bodies_bytes, 1, kMaxBytes,
                      "of all requests being read; default 268435456; beyond them 503"));
  in_group(add_number(parser, "--max-worker-queue", http.max_worker_queue, 1, 1 << 20,
                      "requests that may wait for a worker to read them; default 4096, and a 64th of it with bodies "
                      "beyond 256 KiB; beyond them 503"));
  in_group(add_number(parser, "--stream-buffer-bytes", http.stream_buffer_bytes, 1024, kMaxBytes,
                      "of a stream that its client has not read; default 1048576; beyond them it is cut off"));
  in_group(add_number(
      parser, "--stream-buffers-bytes", http.stream_buffers_bytes, 1024, kMaxBytes,
      "of all answers together, streams or whole; default 67108864; beyond them streams with over 64 KiB are "
      "cut off, and whole answers of more than that a 503"));
  in_group(add_number(parser, "--max-json-depth", options.api.json.max_depth, 1, 1000,
                      "arrays and objects within one another in a request; default 100"));
  in_group(add_seconds(parser, "--header-time", http.header_time, 0.001, "for a request's header to come"));
  in_group(add_seconds(parser, "--body-time", http.body_time, 0.001, "for its body to come"));
  in_group(add_seconds(parser, "--total-time", http.total_time, 0.001, "for a request and its answer, in all"));
  in_group(add_seconds(parser, "--idle-time", http.idle_time, 0.001, "that a connection may have no request"));
  in_group(add_seconds(parser, "--write-time", http.write_time, 0.001, "that a client may take nothing of its answer"));
  in_group(add_seconds(parser, "--ping-time", http.ping_time, 0, "of silence in a stream before a ping; 0: none"));
  in_group(
      add_seconds(parser, "--drain-seconds", options.drain_time, 0, "for requests under way to end, after SIGTERM"));
  in_group(add_seconds(parser, "--watchdog-seconds", options.watchdog_time, 0,
                       "without a step, though there is work, before the device counts as hung; 0: any"));
}

bool is_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

struct KeyLine {
  std::string_view key;
  std::optional<int> priority;
};

// Error: what is wrong with it.
Result<KeyLine> parse_key_line(std::string_view line) {
  const size_t end = std::min(line.find_first_of(" \t"), line.size());
  KeyLine parsed{.key = line.substr(0, end), .priority = {}};
  if (!is_key(parsed.key)) return Error::usage("a key is of printable ASCII characters, without spaces");
  const size_t rest = line.find_first_not_of(" \t", end);
  if (rest == std::string_view::npos) return parsed;
  parsed.priority = parse_number<int>(line.substr(rest));
  if (!parsed.priority || *parsed.priority < kMinPriority || *parsed.priority > kMaxPriority)
    return Error::usage(
        fmt::format("behind a key stands a priority from {} to {}, or nothing", kMinPriority, kMaxPriority));
  return parsed;
}

// Without the comment: a # within a key is part of it.
std::string_view trimmed(std::string_view line) {
  size_t comment = line.find('#');
  while (comment != std::string_view::npos && comment > 0 && line[comment - 1] != ' ' && line[comment - 1] != '\t')
    comment = line.find('#', comment + 1);
  line = line.substr(0, comment);
  const size_t first = line.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
}

Result<void> read_key_file(const std::string& path, server::ServerOptions& server) {
  SPATE_TRY(const std::string text, read_file(path));
  std::string_view left = text;
  for (int line_number = 1; !left.empty(); ++line_number) {
    const size_t end = std::min(left.find('\n'), left.size());
    const std::string_view line = trimmed(left.substr(0, end));
    left.remove_prefix(std::min(end + 1, left.size()));
    if (line.empty()) continue;
    const Result<KeyLine> parsed = parse_key_line(line);
    if (!parsed) return Error::usage(fmt::format("{}, line {}: {}", path, line_number, parsed.error().message));
    server.http.api_keys.emplace_back(parsed->key);
    server.api.max_priority_by_key.push_back(parsed->priority.value_or(server.api.max_priority));
  }
  // A file that was to protect the server and holds nothing must not leave it open.
  if (server.http.api_keys.empty()) return Error::usage(fmt::format("{}: there is no key in it", path));
  return {};
}

}  // namespace

void add_serve_options(CLI::App& parser, ServeOptions& options) {
  add_model_option(parser, options.model);
  add_network_options(parser, options.server.http);
  add_access_options(parser, options);
  add_capacity_options(parser, options);
  add_limit_options(parser, options.server);
  add_chat_options(parser, options.chat);
  parser.remove_option(parser.get_option("--system"));  // conversations bring their own
  add_device_options(parser, options.device);
}

int default_cpu_pages(const CpuPoolWish& wish) {
  const int64_t one = (int64_t{wish.context} + kPageTokens - 1) / kPageTokens;
  const int64_t most = std::min<int64_t>(one * wish.max_seqs, std::numeric_limits<int>::max() / kPageTokens);
  const bool one_fits = one <= (wish.memory_bytes - wish.weight_bytes) / wish.page_bytes;
  const int64_t least = wish.context_asked || one_fits ? std::min(one, most) : 1;
  return static_cast<int>(std::clamp(wish.memory_bytes / 4 / wish.page_bytes, least, most));
}

Result<void> collect_api_keys(ServeOptions& options) {
  server::ServerOptions& server = options.server;
  if (!options.api_key_file.empty()) SPATE_TRY_VOID(read_key_file(options.api_key_file, server));
  std::vector<std::string> single = options.api_keys;
  if (const std::string& key = env_options().api_key; single.empty() && !key.empty()) single.push_back(key);
  for (std::string& key : single) {
    if (!is_key(key)) return Error::usage("an API key is of printable ASCII characters, without spaces");
    server.http.api_keys.push_back(std::move(key));
    server.api.max_priority_by_key.push_back(server.api.max_priority);
  }
  return {};
}

}  // namespace spate::app
