// Runs one level of a load: so many clients, or so many arrivals a second, and what became of each request.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

#include "load/http_client.h"
#include "load/request_body.h"
#include "load/workload.h"

namespace spate::load {

// How requests come.
enum class Arrivals {
  kClosed,   // each of `clients` sends one after the other
  kPoisson,  // `rate` a second, whatever the server does
  kTrace,    // at the times of the workload's trace
};

struct LevelOptions {
  Arrivals arrivals = Arrivals::kClosed;
  int clients = 1;
  double rate = 1;
  int64_t n_requests = 0;  // to begin; 0: no bound
  double seconds = 0;      // none begins after that; 0: no bound. One of the two bounds is given, or a trace ends it.
  double timeout_s = 300;  // of a request
  int index = 0;           // of the level in its benchmark (Workload::job)
  RequestOptions request = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// What became of a request. Times are seconds from the level's beginning.
struct RequestRecord {
  double due_s = 0;    // when it was to begin: in an open loop that may be before it did
  double first_s = 0;  // the first text
  double last_s = 0;   // the last
  double end_s = 0;
  int prompt_tokens = 0;     // as the server counts; 0: it does not say
  int output_tokens = 0;     // as the server counts, or else the events with text
  std::string failure = {};  // a kind: "connect", "timeout", "http 429", "closed early", ...; empty: none
  std::string detail = {};   // of the failure, in the server's or the system's words
};

struct LevelResult {
  std::vector<RequestRecord> requests;  // in the order of their ends
  std::vector<float> gaps_s;            // between consecutive events with text of a request, of all that did not fail
  double wall_s = 0;                    // from the beginning to the last end
  int most_in_flight = 0;
};

// Called about ten times a second; false ends the level.
struct LevelProgress {
  double fraction = 0;  // done, in [0, 1]
  int64_t n_ended = 0, n_failed = 0;
  int n_in_flight = 0;
};
using OnLevelProgress = std::function<bool(const LevelProgress&)>;

// Error kInterrupted: ended by progress.
Result<LevelResult> run_level(HttpClient& client, const std::string& target, const Workload& workload,
                              const LevelOptions& options, const OnLevelProgress& progress);

}  // namespace spate::load
