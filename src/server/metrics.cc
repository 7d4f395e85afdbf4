#include "server/metrics.h"

#include <fmt/format.h>
#include <iterator>

namespace spate::server {
namespace {

std::string escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

// Bounds as they are written in source: 0.005, not 0.0050000000000000001; whole numbers in full.
std::string number(double value) {
  return fmt::format("{}", value);
}

constexpr std::string_view kFinishNames[] = {"stop", "length", "cancelled", "deadline", "error"};
static_assert(std::size(kFinishNames) == kFinishReasons);

}  // namespace

void MetricsPage::family(std::string_view name, std::string_view type, std::string_view help) {
  family_ = name;
  text_.append(fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type));
}

void MetricsPage::sample(double value, const Labels& labels) {
  text_.append(family_);
  char before = '{';
  for (const auto& [name, label] : labels) {
    text_.append(fmt::format("{}{}=\"{}\"", before, name, escaped(label)));
    before = ',';
  }
  if (labels.size() > 0) text_.append("}");
  text_.append(" ").append(number(value)).append("\n");
}

void MetricsPage::counter(std::string_view name, std::string_view help, double value) {
  family(name, "counter", help);
  sample(value);
}

void MetricsPage::gauge(std::string_view name, std::string_view help, double value) {
  family(name, "gauge", help);
  sample(value);
}

void MetricsPage::histogram(std::string_view name, std::string_view help, const Histogram& values) {
  family(name, "histogram", help);
  uint64_t below = 0;
  for (size_t i = 0; i < values.bounds.size(); ++i) {
    below += values.counts[i];
    text_.append(fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, number(values.bounds[i]), below));
  }
  text_.append(fmt::format("{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, values.count, name,
                           number(values.sum), name, values.count));
}

void ServerMetrics::add_time_to_first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_seconds_.add(seconds);
}

void ServerMetrics::add_gap(double seconds, size_t n_tokens) {
  const std::lock_guard lock(mutex_);
  inter_token_seconds_.add(seconds);
  for (size_t i = 1; i < n_tokens; ++i) inter_token_seconds_.add(0);
}

void ServerMetrics::add_request(const http::RequestRecord& record) {
  const std::lock_guard lock(mutex_);
  ++n_requests_[{std::string(record.route), record.status}];
  request_seconds_.add(record.total_seconds);
  if (record.outcome == http::RequestRecord::Outcome::kCutOff) ++n_cut_off_;
  if (record.outcome == http::RequestRecord::Outcome::kClientGone) ++n_client_gone_;
}

void ServerMetrics::write(MetricsPage& page) const {
  const std::lock_guard lock(mutex_);
  page.family("spate_http_requests_total", "counter",
              "Requests that are over, by route (empty: none fitted) and status (0: none was sent).");
  for (const auto& [key, count] : n_requests_)
    page.sample(static_cast<double>(count), {{"route", key.first}, {"status", std::to_string(key.second)}});
  page.counter("spate_http_clients_gone_total", "Clients that went before their answer was complete.",
               static_cast<double>(n_client_gone_));
  page.counter("spate_http_clients_cut_off_total", "Clients that were cut off because they did not read.",
               static_cast<double>(n_cut_off_));
  page.histogram("spate_http_request_seconds", "From a request's first byte to the end of its answer.",
                 request_seconds_);
  page.histogram("spate_ttft_seconds", "From a request's first byte to its first token.", first_token_seconds_);
  page.histogram("spate_inter_token_seconds", "Between consecutive tokens of one answer, as they are handed to it.",
                 inter_token_seconds_);
}

void write_engine(MetricsPage& page, const EngineStats& stats) {
  const auto ratio = [](int part, int whole) { return whole > 0 ? static_cast<double>(part) / whole : 0.0; };
  page.gauge("spate_num_requests_running", "Answers being computed; each choice of a request is one.", stats.n_running);
  page.gauge("spate_num_requests_waiting", "Answers not begun, or preempted.", stats.n_waiting);
  page.gauge("spate_num_requests_preempted", "Of those that wait, the ones that had begun.", stats.n_preempted);
  page.gauge("spate_waiting_tokens", "Prompt tokens of answers not begun.",
             static_cast<double>(stats.n_waiting_tokens));
  page.gauge("spate_kv_cache_usage_ratio", "Share of the KV pages that running answers hold.",
             ratio(stats.n_pages_used, stats.n_pages));
  page.family("spate_kv_pages", "gauge", "KV pages by state; cached ones are given up when needed.");
  page.sample(stats.n_pages_used, {{"state", "used"}});
  page.sample(stats.n_pages_cached, {{"state", "cached"}});
  page.sample(stats.n_pages - stats.n_pages_used - stats.n_pages_cached, {{"state", "free"}});

  const auto count = [&page](std::string_view name, std::string_view help, uint64_t value) {
    page.counter(name, help, static_cast<double>(value));
  };
  count("spate_prompt_tokens_total", "Prompt tokens of answers that were begun, cached ones too.",
        stats.n_prompt_tokens);
  count("spate_cached_prompt_tokens_total", "Of these, the ones whose KV was there already.", stats.n_cached_tokens);
  count("spate_prefill_tokens_total", "Tokens run as part of a prompt, or again after a preemption.",
        stats.n_prefill_tokens);
  count("spate_generation_tokens_total", "Tokens generated.", stats.n_generated_tokens);
  count("spate_prefix_cache_queries_total", "Prompts looked up in the prefix cache.", stats.n_prefix_lookups);
  count("spate_prefix_cache_hits_total", "Of these, the ones of which at least a page was there.", stats.n_prefix_hits);
  count("spate_preemptions_total", "Answers that lost their KV pages to others, to be recomputed.",
        stats.n_preemptions);
  count("spate_steps_total", "Steps of the model.", stats.n_steps);
  page.family("spate_finished_total", "counter", "Answers that ended, by reason.");
  for (size_t i = 0; i < stats.n_finished.size(); ++i)
    page.sample(static_cast<double>(stats.n_finished[i]), {{"reason", kFinishNames[i]}});

  page.histogram("spate_step_seconds", "A step's time, from one completion to the next.", stats.step_seconds);
  page.histogram("spate_step_batch_size", "Sequences in a step.", stats.step_sequences);
  page.histogram("spate_step_tokens", "Tokens in a step.", stats.step_tokens);
  page.histogram("spate_queue_seconds", "From an answer's submission to its first step.", stats.queue_seconds);
}

}  // namespace spate::server
