#include "server/api/embedding_request.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "server/api/generation_fields.h"
#include "server/api/prompt_list.h"

namespace spate::api {
namespace {

constexpr size_t kMaxOptionBytes = 32;

void read_format(Fields& fields, bool& base64) {
  std::string format = "float";
  fields.text("encoding_format", format, kMaxOptionBytes);
  if (format != "float" && format != "base64")
    fields.fail("encoding_format", "encoding_format must be float or base64");
  base64 = format == "base64";
}

void read_pooling(Fields& fields, Pooling& pooling) {
  std::string name;
  fields.text("pooling", name, kMaxOptionBytes);
  if (name == "mean") pooling = Pooling::kMean;
  if (name == "last") pooling = Pooling::kLast;
  if (!name.empty() && name != "mean" && name != "last") fields.fail("pooling", "pooling must be mean or last");
}

}  // namespace

ApiResult<EmbeddingRequest> parse_embedding_request(const Json& body, const ServedModel& model) {
  EmbeddingRequest request;
  request.pooling = model.options().pooling;
  Fields fields(body);
  read_format(fields, request.base64);
  read_pooling(fields, request.pooling);
  const int d_model = model.options().d_model;
  int dimensions = d_model;
  fields.integer("dimensions", dimensions, 1, std::numeric_limits<int>::max());
  if (dimensions != d_model)
    fields.fail("dimensions", fmt::format("dimensions is {}; this model's embeddings have {}", dimensions, d_model));
  read_scheduling(fields, request.cache_salt, request.priority);
  const Json* input = fields.find("input");
  SPATE_TRY_VOID(fields.result());
  if (input == nullptr) return ApiError::invalid("input", "input is missing", "missing_required_parameter");
  SPATE_TRY(request.inputs, parse_prompts(*input, "input", kMaxEmbeddingInputs, model));
  for (const std::vector<TokenId>& ids : request.inputs) SPATE_TRY_VOID(check_context(model, ids.size(), 0, "input"));
  return request;
}

}  // namespace spate::api
