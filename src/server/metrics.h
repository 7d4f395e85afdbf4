// What /metrics says: counts of this server, and the engine's, in Prometheus' text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/, 0.0.4).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "engine/engine_stats.h"
#include "server/http/handler.h"

namespace spate::server {

// Builds a page. Families are written one after the other, each with its help and type.
class MetricsPage {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  // A family of which samples follow. type: "counter", "gauge".
  void family(std::string_view name, std::string_view type, std::string_view help);
  // Of the last family; any bytes may be a label's value.
  void sample(double value, const Labels& labels = {});
  // A family of one sample.
  void counter(std::string_view name, std::string_view help, double value);
  void gauge(std::string_view name, std::string_view help, double value);
  void histogram(std::string_view name, std::string_view help, const Histogram& values);

  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  std::string family_;
};

// What the server itself counts. Every function may be called from any thread.
class ServerMetrics {
 public:
  void add_time_to_first_token(double seconds);
  // n_tokens came together, `seconds` after the one before them.
  void add_gap(double seconds, size_t n_tokens);
  void add_request(const http::RequestRecord& record);

  void write(MetricsPage& page) const;

 private:
  mutable std::mutex mutex_;
  Histogram first_token_seconds_{
      {.005, .01, .02, .03, .05, .075, .1, .15, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60}};
  Histogram inter_token_seconds_{
      {.001, .002, .003, .004, .005, .0075, .01, .015, .02, .03, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5}};
  Histogram request_seconds_{{.005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}};
  std::map<std::pair<std::string, int>, uint64_t> n_requests_;  // by route and status
  uint64_t n_cut_off_ = 0, n_client_gone_ = 0;
};

void write_engine(MetricsPage& page, const EngineStats& stats);

}  // namespace spate::server
