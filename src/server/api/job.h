// A request on its way through the engine, and its answer on the way to the client.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/delayed_calls.h"
#include "server/api/serving.h"
#include "server/http/handler.h"

namespace spate::api {

// Choices of one client's request that the engine has at a time: enough to fill a batch, few enough that a request of
// thousands of prompts does not fill the queue.
inline constexpr int kMaxChoicesInEngine = 64;

// What a request's body asks for, ready to run.
struct Work {
  std::vector<Request> requests = {};   // one a prompt
  std::unique_ptr<Answer> answer = {};  // to all of them
  bool stream = false;
};

// Lives as long as the engine or the exchange knows of it. One thread at a time brings output, an I/O thread says that
// the client went.
class Job : public std::enable_shared_from_this<Job> {
 public:
  // serving outlives this.
  Job(Serving& serving, std::shared_ptr<http::Exchange> exchange, Work work);

  // Submits the requests, the first of them now, others as these end. A stream that has had nothing to send until
  // `patience` makes its call begins all the same, so that the transport's pings keep the connection; until then an
  // error has a status of its own. Where the queue is full, and prompts of this were taken before, `retries` says when
  // to try the others again; it outlives the engine's requests. Once.
  void start(DelayedCalls& patience, DelayedCalls& retries);

 private:
  void submit_more();
  std::optional<size_t> next_prompt();
  bool submitted(size_t prompt, const Result<RequestId>& id);
  void take(size_t prompt, const OutputDelta& delta);
  void hand_over(size_t prompt, const OutputDelta& delta);
  void give_up();
  void client_gone();
  // With mutex_ held:
  std::vector<RequestId> fail(const ApiError& error);  // those that are then to be cancelled, without it
  void send(const Events& events);
  void complete();
  void annotate();
  void begin_stream();
  void try_again_later();
  // Without it: the engine may call take().
  void cancel_all(const std::vector<RequestId>& ids);

  Serving& serving_;
  const std::shared_ptr<http::Exchange> exchange_;
  DelayedCalls* retries_ = nullptr;  // from start() on

  std::mutex mutex_;
  Work work_;
  std::deque<size_t> waiting_;  // prompts to be submitted
  std::vector<RequestId> ids_;  // of those that were
  int n_in_engine_ = 0;         // choices submitted, or about to be, that have not ended
  int n_open_ = 0;              // choices that have not ended
  bool begun_ = false;          // a stream's headers are on their way
  bool over_ = false;           // answered, or nobody is there to read
};

// Answers with the error.
void respond_error(http::Exchange& exchange, const ApiError& error);

inline constexpr std::string_view kJsonType = "application/json";

}  // namespace spate::api
