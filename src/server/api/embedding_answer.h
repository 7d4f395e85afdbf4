// Answers of POST /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings/object).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/embedding_request.h"

namespace spate::api {

class EmbeddingAnswer final : public Answer {
 public:
  EmbeddingAnswer(std::shared_ptr<const ServedModel> model, const EmbeddingRequest& request);

  void add(size_t prompt, const OutputDelta& delta, Events& events) override;
  void end(Events&) override {}
  std::string body() override;
  const Usage& usage() const override { return usage_; }

 private:
  std::shared_ptr<const ServedModel> model_;
  bool base64_;
  std::vector<std::string> embeddings_;  // [inputs], as JSON
  Usage usage_;
};

// The vector scaled to length 1; one of length 0, or that is not finite, as it is.
std::vector<float> normalised(std::span<const float> vector);

// RFC 4648, 4, of the floats' bytes, little-endian.
std::string base64_of(std::span<const float> vector);

}  // namespace spate::api
