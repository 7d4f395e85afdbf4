#include "support/test_data.h"

#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "base/env_options.h"

namespace spate::testing {

std::string fixture_path(const std::string& name) {
  return std::string(SPATE_SOURCE_DIR "/tests/fixtures/") + name;
}

std::string bundled_model_path() {
  return SPATE_SOURCE_DIR "/models/classics-33m-Q4_K_M.gguf";
}

std::string shared_path(const std::string& name) {
  const std::string& folder = env_options().test_data;
  return (folder.empty() ? std::string(SPATE_SOURCE_DIR "/../shared") : folder) + "/" + name;
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
