#include "server/api/routes.h"

#include <algorithm>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/chat_answer.h"
#include "server/api/chat_request.h"
#include "server/api/completion_answer.h"
#include "server/api/embedding_answer.h"
#include "server/api/job.h"
#include "server/api/model_endpoints.h"
#include "server/api/text_endpoints.h"

namespace spate::api {
namespace {

using http::Exchange;
using ExchangePtr = std::shared_ptr<Exchange>;
using ModelPtr = std::shared_ptr<const ServedModel>;

// Between two looks at a full queue, for the prompts of a request that it has begun to take.
constexpr std::chrono::milliseconds kRetryTime{20};

struct Context {
  Context(Serving& server, const ApiOptions& given)
      : serving(server), options(given), patience(given.stream_patience), retries(kRetryTime) {}

  Serving& serving;
  const ApiOptions options;
  DelayedCalls patience, retries;
};
using ContextPtr = std::shared_ptr<Context>;

ApiResult<Work> chat_work(const Json& body, const ModelPtr& model) {
  SPATE_TRY(const ChatRequest request, parse_chat_request(body, *model));
  SPATE_TRY(ServedModel::Prompt prompt, model->render(request.conversation));
  SPATE_TRY_VOID(check_context(*model, prompt.tokens.size(), request.generation.max_tokens, "messages"));
  Work work{.stream = request.generation.stream};
  work.requests.push_back(engine_request(request, std::move(prompt.tokens), *model));
  work.answer = std::make_unique<ChatAnswer>(model, request.generation);
  return work;
}

ApiResult<Work> completion_work(const Json& body, const ModelPtr& model) {
  SPATE_TRY(const CompletionRequest request, parse_completion_request(body, *model));
  Work work{.stream = request.generation.stream};
  for (const std::vector<TokenId>& prompt : request.prompts) {
    Request engine = engine_request(request.generation, prompt);
    engine.max_tokens = max_tokens_of(request, prompt.size(), *model);
    engine.prompt_logprobs = request.echo && request.generation.n_logprobs;
    work.requests.push_back(std::move(engine));
  }
  work.answer = std::make_unique<CompletionAnswer>(model, request);
  return work;
}

ApiResult<Work> embedding_work(const Json& body, const ModelPtr& model) {
  SPATE_TRY(const EmbeddingRequest request, parse_embedding_request(body, *model));
  Work work;
  for (const std::vector<TokenId>& input : request.inputs)
    work.requests.push_back({.prompt = input,
                             .max_tokens = 0,
                             .priority = request.priority,
                             .cache_salt = request.cache_salt,
                             .pooling = request.pooling});
  work.answer = std::make_unique<EmbeddingAnswer>(model, request);
  return work;
}

ApiResult<void> check_priority(const Work& work, const ApiOptions& options, int key_index) {
  const auto key = static_cast<size_t>(key_index);
  const bool has_own = key_index >= 0 && key < options.max_priority_by_key.size();
  const int bound = has_own ? options.max_priority_by_key[key] : options.max_priority;
  const int asked = work.requests.front().priority;
  if (asked <= bound) return {};
  return ApiError::invalid("priority", fmt::format("priority is {}; this client may ask for at most {}", asked, bound));
}

// The body, and the model that is to answer it.
struct Asked {
  Json body;
  ModelPtr model;
};
ApiResult<Asked> read(const Context& context, Exchange& exchange) {
  SPATE_TRY(ModelPtr model, context.serving.model());
  SPATE_TRY(Json body, parse_body(exchange.request().body, context.options.json));
  exchange.release_body();
  SPATE_TRY_VOID(check_model(body, *model, context.options.strict_model));
  return Asked{std::move(body), std::move(model)};
}

using MakeWork = ApiResult<Work> (*)(const Json&, const ModelPtr&);
using MakeAnswer = ApiResult<std::string> (*)(const Json&, const ServedModel&);

ApiResult<Work> make_work(const Context& context, Exchange& exchange, MakeWork make) {
  SPATE_TRY(const Asked asked, read(context, exchange));
  SPATE_TRY(Work work, make(asked.body, asked.model));
  SPATE_TRY_VOID(check_priority(work, context.options, exchange.request().key_index));
  return work;
}

ApiResult<std::string> make_answer(const Context& context, Exchange& exchange, MakeAnswer make) {
  SPATE_TRY(const Asked asked, read(context, exchange));
  return make(asked.body, *asked.model);
}

void respond(Exchange& exchange, ApiResult<std::string> answer) {
  if (!answer) return respond_error(exchange, answer.error());
  exchange.respond(200, kJsonType, std::move(answer).value());
}

http::Route generating(const ContextPtr& context, std::string path, MakeWork make) {
  const auto handler = [context, make](const ExchangePtr& exchange) {
    ApiResult<Work> work = make_work(*context, *exchange, make);
    if (!work) return respond_error(*exchange, work.error());
    std::make_shared<Job>(context->serving, exchange, std::move(work).value())
        ->start(context->patience, context->retries);
  };
  return {.method = "POST",
          .path = std::move(path),
          .handler = handler,
          .body = http::Body::kJson,
          .run_on = http::RunOn::kWorker};
}

http::Route answering(const ContextPtr& context, std::string path, MakeAnswer make) {
  const auto handler = [context, make](const ExchangePtr& exchange) {
    respond(*exchange, make_answer(*context, *exchange, make));
  };
  return {.method = "POST",
          .path = std::move(path),
          .handler = handler,
          .body = http::Body::kJson,
          .run_on = http::RunOn::kWorker};
}

http::Route getting(std::string path, http::Handler handler) {
  return {.method = "GET", .path = std::move(path), .handler = std::move(handler)};
}

ApiResult<std::string> models(const Context& context, const http::HttpRequest& request, bool all) {
  SPATE_TRY(const ModelPtr model, context.serving.model());
  if (all) return list_models(*model);
  return describe_model(request.path_rest, *model);
}

void refuse_responses(const ExchangePtr& exchange) {
  respond_error(*exchange, ApiError::not_found("the Responses API is not served; use /v1/chat/completions",
                                               "unsupported_endpoint"));
}

}  // namespace

std::vector<http::Route> api_routes(Serving& serving, const ApiOptions& options) {
  const auto context = std::make_shared<Context>(serving, options);
  const auto all_models = [context](const ExchangePtr& exchange) {
    respond(*exchange, models(*context, exchange->request(), true));
  };
  const auto one_model = [context](const ExchangePtr& exchange) {
    respond(*exchange, models(*context, exchange->request(), false));
  };
  const auto openapi = [](const ExchangePtr& exchange) {
    exchange->respond(200, kJsonType, std::string(openapi_json()));
  };
  return {generating(context, "/v1/chat/completions", chat_work),
          generating(context, "/v1/completions", completion_work),
          generating(context, "/v1/embeddings", embedding_work),
          getting("/v1/models", all_models),
          getting("/v1/models/*", one_model),
          answering(context, "/tokenize", tokenize),
          answering(context, "/detokenize", detokenize),
          answering(context, "/apply-template", apply_template),
          getting("/openapi.json", openapi),
          {.method = "*", .path = "/v1/responses", .handler = refuse_responses},
          {.method = "*", .path = "/v1/responses/*", .handler = refuse_responses}};
}

}  // namespace spate::api
