// From what the engine says of a request's choices to what the client reads: a whole body, or the events of a stream.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/usage.h"

namespace spate::api {

// The data of server-sent events, in order.
using Events = std::vector<std::string>;

// What every part of an answer says.
struct AnswerHead {
  std::string id;       // "chatcmpl-..."
  int64_t created = 0;  // Unix seconds
  std::string model;

  // A new id, and the time now.
  static AnswerHead make(std::string_view id_prefix, const std::string& model);
  // "{"id":..,"object":OBJECT,"created":..,"model":..,"system_fingerprint":null,"choices":[": what bodies and chunks
  // begin with.
  std::string opening(std::string_view object) const;
};

// Used by one thread at a time. Never sees a delta that ended in an error, nor one after such.
class Answer {
 public:
  virtual ~Answer() = default;

  // Takes in what a step added to a choice of the prompt of that index. A stream's answer appends the events that this
  // makes, if any.
  virtual void add(size_t prompt, const OutputDelta& delta, Events& events) = 0;
  // Every choice has ended. A stream's answer appends what is still to be sent before [DONE].
  virtual void end(Events& events) = 0;
  // The whole answer, of one that is no stream, after end(). Once.
  virtual std::string body() = 0;

  virtual const Usage& usage() const = 0;
};

// "stop" or "length", in quotes. reason: kStop or kLength.
std::string_view finish_json(FinishReason reason);

}  // namespace spate::api
