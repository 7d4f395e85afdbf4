#include "server/api/embedding_answer.h"

#include <bit>
#include <cmath>
#include <fmt/core.h>

#include "base/check.h"
#include "server/api/json_text.h"

namespace spate::api {

EmbeddingAnswer::EmbeddingAnswer(std::shared_ptr<const ServedModel> model, const EmbeddingRequest& request)
    : model_(std::move(model)), base64_(request.base64), embeddings_(request.inputs.size()) {}

std::vector<float> normalised(std::span<const float> vector) {
  double sum = 0;
  for (const float x : vector) sum += double{x} * x;
  const double length = std::sqrt(sum);
  std::vector<float> out(vector.begin(), vector.end());
  if (!(length > 0) || !std::isfinite(length)) return out;
  for (float& x : out) x = static_cast<float>(x / length);
  return out;
}

std::string base64_of(std::span<const float> vector) {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string_view bytes(reinterpret_cast<const char*>(vector.data()), vector.size_bytes());
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < n ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) out += j <= n ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

void EmbeddingAnswer::add(size_t prompt, const OutputDelta& delta, Events&) {
  if (!delta.finish) return;
  usage_.add(delta.choice, delta.finish->cost);
  SPATE_CHECK(!delta.embedding.empty(), "input {} ended without its embedding", prompt);
  const std::vector<float> embedding = normalised(delta.embedding);
  std::string& out = embeddings_[prompt];
  if (base64_) {
    out = '"' + base64_of(embedding) + '"';
    return;
  }
  char separator = '[';
  for (const float x : embedding) {
    out += separator;
    append_json_number(out, x);
    separator = ',';
  }
  out += ']';
}

std::string EmbeddingAnswer::body() {
  std::string out = R"({"object":"list","data":[)";
  for (size_t i = 0; i < embeddings_.size(); ++i)
    out += fmt::format(R"({}{{"object":"embedding","index":{},"embedding":{}}})", i > 0 ? "," : "", i, embeddings_[i]);
  out += fmt::format(R"(],"model":{},"usage":{},"timings":{}}})", json_text(model_->name()), usage_.json_of_prompt(),
                     usage_.timings_json());
  return out;
}

}  // namespace spate::api
