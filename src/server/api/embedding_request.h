// The body of POST /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings/create).
#pragma once

#include <vector>

#include "server/api/fields.h"
#include "server/api/served_model.h"

namespace spate::api {

inline constexpr size_t kMaxEmbeddingInputs = 2048;

struct EmbeddingRequest {
  std::vector<std::vector<TokenId>> inputs = {};  // at least one; none empty, all in the vocabulary and the context
  Pooling pooling = Pooling::kMean;
  bool base64 = false;  // little-endian float32, else numbers
  std::string cache_salt = {};
  int priority = 0;
};

// Error 400 with `param`.
ApiResult<EmbeddingRequest> parse_embedding_request(const Json& body, const ServedModel& model);

}  // namespace spate::api
