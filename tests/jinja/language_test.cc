// The language against Jinja2: each cases/TOPIC.json holds templates and values, and TOPIC.expected.json what Jinja2
// makes of them (scripts/generate-jinja-cases).
#include <gtest/gtest.h>

#include "jinja_testing.h"

namespace spate::testing {
namespace {

const std::string kFolder = SPATE_JINJA_CASES;

std::vector<std::string> topics() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".expected.json") && name.ends_with(".json")) names.push_back(name.substr(0, name.size() - 5));
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Language : public ::testing::TestWithParam<std::string> {};

TEST_P(Language, BehavesAsJinja2) {
  const Json cases = read_json(kFolder + "/" + GetParam() + ".json");
  const Json expected = read_json(kFolder + "/" + GetParam() + ".expected.json");
  ASSERT_EQ(cases.size(), expected.size()) << "scripts/generate-jinja-cases brings them up to date";
  for (const auto& [name, entry] : cases.items()) {
    SCOPED_TRACE(name + ": " + entry["template"].get<std::string>());
    ASSERT_TRUE(expected.contains(name)) << "scripts/generate-jinja-cases brings them up to date";
    const Json& outcome = expected[name];
    const Result<jinja::Rendered> rendered =
        render(entry["template"].get<std::string>(), entry.value("context", Json::object()));
    if (outcome.contains("text")) {
      ASSERT_TRUE(rendered.ok()) << rendered.error().message;
      EXPECT_EQ(rendered->text, outcome["text"].get<std::string>());
    } else {
      const std::string error = outcome["error"];
      ASSERT_FALSE(rendered.ok()) << "Jinja2 fails: " << error << "\ngot: " << rendered->text;
      const bool is_limit = rendered.error().code == ErrorCode::kOutOfResources;
      EXPECT_EQ(is_limit, error.starts_with("OverflowError: Range too big")) << rendered.error().message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Language, ::testing::ValuesIn(topics()),
                         [](const ::testing::TestParamInfo<std::string>& topic) {
                           std::string name = topic.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(LanguageCases, AreMany) {
  size_t n = 0;
  for (const std::string& topic : topics()) n += read_json(kFolder + "/" + topic + ".json").size();
  EXPECT_GE(n, 250u);
}

}  // namespace
}  // namespace spate::testing
