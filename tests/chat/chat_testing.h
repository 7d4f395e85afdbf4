// What the tests of conversations share.
#pragma once

#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "chat/chat_template.h"
#include "chat/prompt_encoder.h"
#include "text/test_vocab.h"

#include "support/test_data.h"

namespace spate::testing {

using chat::Json;

// The time that the published expectations were rendered at: 2026-03-14 15:09:26.
inline std::tm expected_now() {
  std::tm now{};
  now.tm_year = 126;
  now.tm_mon = 2;
  now.tm_mday = 14;
  now.tm_hour = 15;
  now.tm_min = 9;
  now.tm_sec = 26;
  now.tm_wday = 6;
  now.tm_yday = 72;
  return now;
}

inline const chat::TemplateNames kNames{.bos_token = "<s>", .eos_token = "</s>", .now = expected_now()};

inline constexpr const char* kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

inline chat::ChatTemplate template_of(std::string_view source) {
  Result<chat::ChatTemplate> made = chat::ChatTemplate::from_source(source, "test");
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

inline chat::Conversation conversation_of(const Json& json) {
  Result<chat::Conversation> made = chat::Conversation::from_json(json);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

inline chat::Conversation one_message(const std::string& content) {
  return conversation_of({{"messages", {{{"role", "user"}, {"content", content}}}}});
}

inline std::string text_or_error(const Result<chat::Rendered>& rendered) {
  return rendered.ok() ? rendered->text : "error: " + rendered.error().message;
}

inline std::unique_ptr<Tokenizer> tokenizer_of(const GgufWriter& writer) {
  Result<Vocab> vocab = vocab_of(writer);
  EXPECT_TRUE(vocab.ok()) << vocab.error().message;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::create(std::move(vocab).value());
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

// Every template of the shared golden data.
inline std::vector<std::string> published_templates() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(shared_path("golden/templates")))
    if (entry.path().extension() == ".jinja") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

inline Json published_json(const std::string& name) {
  return Json::parse(read_file(shared_path("golden/templates/" + name)).value());
}

inline chat::ChatTemplate published_template(const std::string& name) {
  Result<chat::ChatTemplate> made = chat::ChatTemplate::from_file(shared_path("golden/templates/" + name + ".jinja"));
  EXPECT_TRUE(made.ok()) << name << ": " << made.error().message;
  return std::move(made).value();
}

}  // namespace spate::testing
