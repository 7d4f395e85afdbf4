#include "app/generate.h"

#include <chrono>
#include <utility>

namespace spate::app {

namespace {

double rate(size_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

double Generation::prompt_rate(size_t n_tokens) const {
  return rate(n_tokens, prompt_seconds);
}

double Generation::decode_rate() const {
  return tokens.empty() ? 0 : rate(tokens.size() - 1, decode_seconds);
}

Result<Generation> generate(Engine& engine, Request request, const std::function<void(std::string_view)>& on_text,
                            const std::function<bool()>& cancelled) {
  Generation result;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  double last_token_at = 0;
  const auto take = [&](RequestId, const OutputDelta& delta) {
    if (!delta.tokens.empty()) {
      last_token_at = elapsed();
      if (result.tokens.empty()) result.prompt_seconds = last_token_at;
    }
    result.prompt.insert(result.prompt.end(), delta.prompt.begin(), delta.prompt.end());
    result.tokens.insert(result.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    result.text += delta.text;
    if (delta.finish) result.finish = *delta.finish;
    if (!delta.text.empty()) on_text(delta.text);
  };
  SPATE_TRY(const RequestId id, engine.submit(std::move(request), take));
  while (engine.step())
    if (cancelled()) engine.cancel(id);
  if (result.finish.error) return *result.finish.error;
  if (result.tokens.empty())
    result.prompt_seconds = elapsed();
  else
    result.decode_seconds = last_token_at - result.prompt_seconds;
  return result;
}

}  // namespace spate::app
