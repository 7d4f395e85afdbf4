// The whole way of a request, from text to text: tokenizer, engine, CPU executor.
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "backend/cpu/cpu_executor.h"
#include "engine/engine.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

struct Loaded {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
};

Loaded load(const std::string& path) {
  Result<std::shared_ptr<const Model>> model = Model::open(path);
  EXPECT_TRUE(model.ok()) << model.error().message;
  Result<Vocab> vocab = Vocab::from_gguf((*model)->file());
  EXPECT_TRUE(vocab.ok()) << vocab.error().message;
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(*vocab));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  return {*model, std::move(*tokenizer)};
}

struct Output {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  bool operator==(const Output&) const = default;
};

OutputSink collect_into(Output& output) {
  return [&output](RequestId, const OutputDelta& delta) {
    output.text += delta.text;
    for (const GeneratedToken& token : delta.tokens) {
      output.tokens.push_back(token.token);
      output.logprobs.push_back(token.logprob);
    }
    EXPECT_FALSE(delta.finish && delta.finish->reason == FinishReason::kError);
  };
}

std::unique_ptr<Executor> cpu_executor(const Loaded& loaded, const ExecutorLimits& limits) {
  auto executor =
      make_cpu_executor(loaded.model, {.limits = limits, .n_threads = 2, .isa = best_isa(), .tiles = false});
  EXPECT_TRUE(executor.ok());
  return std::move(*executor);
}

TEST(Generation, Stories260K_GreedyText_StartsAsPublished) {
  SPATE_REQUIRE_SHARED("models/stories260K.gguf");
  std::ifstream file(shared_path("golden/demo/stories260K.json"));
  const nlohmann::json golden = nlohmann::json::parse(file);
  const Loaded loaded = load(shared_path("models/stories260K.gguf"));
  const auto executor = cpu_executor(loaded, {.max_seqs = 1, .max_step_tokens = 64, .n_pages = 8});
  Engine engine(*executor, loaded.tokenizer.get(),
                {.vocab_size = loaded.model->spec().vocab_size, .context_tokens = 200});
  Request request;
  request.prompt = loaded.tokenizer->encode(golden.at("prompt").get<std::string>());
  ASSERT_EQ(request.prompt[0], loaded.tokenizer->vocab().bos);
  request.max_tokens = golden.at("n_predict").get<int>();
  Output output;
  ASSERT_TRUE(engine.submit(std::move(request), collect_into(output)).ok());
  engine.run_until_idle();
  EXPECT_EQ(output.tokens.size(), golden.at("n_predict").get<size_t>());
  EXPECT_EQ(output.text, golden.at("greedy_text").get<std::string>());
}

std::vector<Request> mixed_requests(const Tokenizer& tokenizer) {
  const char* prompts[] = {"The Mole had been working", "It was a dark and", "Call me",
                           "She walked slowly along the river bank, and",
                           "<|im_start|>user\nTell me of the sea.<|im_end|>\n<|im_start|>assistant\n"};
  std::vector<Request> requests;
  std::mt19937 random(2);
  for (int i = 0; i < 14; ++i) {
    Request request;
    std::string text = prompts[i % std::size(prompts)];
    for (int repeat = static_cast<int>(random() % 5); repeat > 0; --repeat)
      text += " and then, as the day wore on and nobody came,";
    request.prompt = tokenizer.encode(text);
    request.max_tokens = 5 + static_cast<int>(random() % 60);
    request.sampling.seed = random();
    request.sampling.temperature = i % 4 == 0 ? 0.0f : 1.1f;
    if (i % 3 == 1) request.sampling.top_p = 0.9f;
    if (i % 3 == 2) request.sampling.top_k = 30;
    if (i % 2 == 1) request.sampling.repetition_penalty = 1.2f;
    if (i % 5 == 2) request.sampling.frequency_penalty = 0.5f;
    if (i % 5 == 3) request.sampling.min_p = 0.05f;
    if (i % 7 == 3) request.logit_bias = {{.token = 260, .bias = -3}};
    if (i % 6 == 5) request.stop_strings = {"the"};
    requests.push_back(std::move(request));
  }
  return requests;
}

// A request's seed gives the same tokens, log-probabilities and text alone, among others, and while others come and are
// cancelled.
TEST(Generation, SameSeed_AloneOrInAnyCompany_SameText) {
  const Loaded loaded = load(bundled_model_path());
  const EngineOptions options{.vocab_size = loaded.model->spec().vocab_size, .context_tokens = 512};
  const std::vector<Request> requests = mixed_requests(*loaded.tokenizer);

  std::vector<Output> alone(requests.size());
  const auto small = cpu_executor(loaded, {.max_seqs = 1, .max_step_tokens = 7, .n_pages = 16});
  for (size_t i = 0; i < requests.size(); ++i) {
    Engine engine(*small, loaded.tokenizer.get(), options);
    ASSERT_TRUE(engine.submit(requests[i], collect_into(alone[i])).ok());
    engine.run_until_idle();
    ASSERT_FALSE(alone[i].tokens.empty());
  }

  const auto large = cpu_executor(loaded, {.max_seqs = 6, .max_step_tokens = 100, .n_pages = 40});
  for (const bool with_cancels : {false, true}) {
    Engine engine(*large, loaded.tokenizer.get(), options);
    std::vector<Output> together(requests.size());
    std::map<size_t, RequestId> disturbers;
    std::mt19937 random(3);
    size_t submitted = 0;
    while (submitted < requests.size() || engine.scheduler().has_work() || engine.n_steps_in_flight() > 0) {
      if (submitted < requests.size() && random() % 3 == 0) {
        ASSERT_TRUE(engine.submit(requests[submitted], collect_into(together[submitted])).ok());
        if (with_cancels) {
          const Result<RequestId> id =
              engine.submit(requests[(submitted + 5) % requests.size()], [](RequestId, const OutputDelta&) {});
          ASSERT_TRUE(id.ok());
          disturbers[submitted] = *id;
        }
        ++submitted;
      }
      for (auto it = disturbers.begin(); it != disturbers.end();)
        if (random() % 8 == 0) {
          engine.cancel(it->second);
          it = disturbers.erase(it);
        } else {
          ++it;
        }
      engine.step();
    }
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(together[i], alone[i]) << "request " << i << (with_cancels ? ", with cancels" : "");
  }
}

}  // namespace
}  // namespace spate::testing
