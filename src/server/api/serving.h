// What the endpoints need of the server around them.
#pragma once

#include <memory>

#include "engine/request.h"
#include "server/api/error_json.h"
#include "server/api/served_model.h"

namespace spate::api {

// Every function may be called from any thread, also within an OutputSink.
class Serving {
 public:
  virtual ~Serving() = default;

  // The model, when requests are taken; else why not, 503: it is loading, or the server is about to stop.
  virtual ApiResult<std::shared_ptr<const ServedModel>> model() const = 0;

  // As EngineThread's: never wait for a step. The sink may take long. received_at: when the client began to ask.
  virtual Result<RequestId> submit(Request request, EngineTime received_at, OutputSink sink) = 0;
  virtual void cancel(RequestId id) = 0;
};

}  // namespace spate::api
