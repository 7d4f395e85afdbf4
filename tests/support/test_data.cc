#include "support/test_data.h"

#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "base/env_options.h"

namespace spate::testing {

std::string source_path(const std::string& name) {
  // Tests that were built elsewhere run from the root of a copy of the tree.
  static const bool is_here = std::filesystem::exists(SPATE_SOURCE_DIR "/tests/fixtures");
  return (is_here ? std::string(SPATE_SOURCE_DIR) : std::filesystem::current_path().string()) + "/" + name;
}

std::string fixture_path(const std::string& name) {
  return source_path("tests/fixtures/" + name);
}

std::string bundled_model_path() {
  return source_path("models/classics-33m-Q4_K_M.gguf");
}

std::string shared_path(const std::string& name) {
  const std::string& folder = env_options().test_data;
  return (folder.empty() ? source_path("../shared") : folder) + "/" + name;
}

bool has_shared(const std::string& name) {
  return std::filesystem::exists(shared_path(name));
}

bool shared_data_is_required() {
  return env_options().ci;
}

TemporaryFolder::TemporaryFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "spate-test-XXXXXX").string();
  SPATE_CHECK(mkdtemp(path.data()) != nullptr, "no temporary folder at {}", path);
  path_ = path;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace spate::testing
