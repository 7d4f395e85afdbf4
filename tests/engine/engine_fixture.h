// What the engine's tests share: a recorder of outputs, and the tokens that a request must get.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/fake_executor.h"

namespace spate::testing {

struct Output {
  std::vector<int32_t> tokens;
  std::vector<GeneratedToken> generated;
  std::vector<PromptToken> prompt;
  std::string text;
  std::vector<std::string> texts;  // of each delta, empty ones left out
  std::vector<float> embedding;
  std::optional<Finish> finish;
};

// Collects what requests get; a delta after the last one is a failure.
class Recorder {
 public:
  OutputSink sink() {
    return [this](RequestId id, const OutputDelta& delta) {
      Output& output = outputs_[{id, delta.choice}];
      EXPECT_FALSE(output.finish) << "request " << id << ", choice " << delta.choice << ": output after its end";
      for (const GeneratedToken& token : delta.tokens) {
        output.tokens.push_back(token.token);
        output.generated.push_back(token);
      }
      output.prompt.insert(output.prompt.end(), delta.prompt.begin(), delta.prompt.end());
      if (!delta.embedding.empty()) output.embedding = delta.embedding;
      output.text += delta.text;
      if (!delta.text.empty()) output.texts.push_back(delta.text);
      output.finish = delta.finish;
      if (on_delta) on_delta(id, delta);
    };
  }
  const Output& operator[](RequestId id) { return of(id, 0); }
  const Output& of(RequestId id, int choice) { return outputs_[{id, choice}]; }
  bool finished(RequestId id) { return (*this)[id].finish.has_value(); }
  FinishReason reason(RequestId id) { return (*this)[id].finish.value().reason; }

  std::function<void(RequestId, const OutputDelta&)> on_delta;

 private:
  std::map<std::pair<RequestId, int>, Output> outputs_;  // by choice
};

// The tokens that a sequence gets with the device to itself: at most `max_tokens`, the end token included.
inline std::vector<int32_t> tokens_alone(const Request& request, int max_tokens, const DrawFunction& draw) {
  std::vector<int32_t> context = request.prompt, generated;
  while (static_cast<int>(generated.size()) < max_tokens) {
    const int32_t token = draw(context, request.sampling);
    context.push_back(token);
    generated.push_back(token);
    if (std::find(request.stop_tokens.begin(), request.stop_tokens.end(), token) != request.stop_tokens.end()) break;
  }
  return generated;
}

inline std::vector<int32_t> counting_prompt(int n_tokens, int32_t first = 1) {
  std::vector<int32_t> prompt(n_tokens);
  for (int i = 0; i < n_tokens; ++i) prompt[i] = (first + i) % 90;
  return prompt;
}

// Time that passes only when it is told to.
class FakeClock {
 public:
  std::function<EngineTime()> now() {
    return [this] { return now_; };
  }
  void advance(double seconds) {
    now_ += std::chrono::duration_cast<EngineClock::duration>(std::chrono::duration<double>(seconds));
  }
  EngineTime in(double seconds) const {
    return now_ + std::chrono::duration_cast<EngineClock::duration>(std::chrono::duration<double>(seconds));
  }

 private:
  EngineTime now_ = EngineTime() + std::chrono::hours(1);
};

// A fake device of 4 slots, 64 tokens a step and 40 pages, and an engine on it, on a clock of the test's. A step takes
// no time unless the test makes it, so there is no bound on it by time unless the options say so.
struct EngineFixture {
  static constexpr int kVocab = 100;

  explicit EngineFixture(ExecutorLimits limits = {.max_seqs = 4, .max_step_tokens = 64, .n_pages = 40},
                         EngineOptions options = {.vocab_size = kVocab, .context_tokens = 500, .max_decode_stretch = 0},
                         const Tokenizer* tokenizer = nullptr)
      : executor(limits, options.vocab_size), engine(executor, tokenizer, timed(std::move(options))) {}

  RequestId submit(Request request) {
    Result<RequestId> id = engine.submit(std::move(request), recorder.sink());
    EXPECT_TRUE(id.ok()) << (id.ok() ? "" : id.error().message);
    return id.value();
  }
  EngineOptions timed(EngineOptions options) {
    options.now = clock.now();
    return options;
  }
  EngineStats stats() const {
    EngineStats stats;
    engine.update(stats);
    return stats;
  }
  void expect_all_free() const {
    const KvPages& pages = engine.scheduler().pages();
    EXPECT_EQ(pages.n_free() + pages.n_cached(), executor.limits().n_pages);
    EXPECT_EQ(engine.scheduler().slots().n_free(), executor.limits().max_seqs);
    EXPECT_EQ(engine.n_steps_in_flight(), 0);
  }

  FakeClock clock;
  FakeExecutor executor;
  Recorder recorder;
  Engine engine;
};

}  // namespace spate::testing
