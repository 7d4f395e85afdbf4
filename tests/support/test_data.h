// Where tests find their data: the repository's own fixtures, and the shared folder beside the source tree.
#pragma once

#include <gtest/gtest.h>
#include <string>

namespace spate::testing {

// <source tree>/<name>. The tree is where the tests were built or, where that is gone, the working directory.
std::string source_path(const std::string& name);

// tests/fixtures/<name>; always there.
std::string fixture_path(const std::string& name);

// models/classics-33m-Q4_K_M.gguf of the repository; always there.
std::string bundled_model_path();

// <shared data>/<name>, whether or not it exists. The folder is SPATE_TEST_DATA, else ../shared from the source tree.
std::string shared_path(const std::string& name);
bool has_shared(const std::string& name);

// True where absent shared data is a failure: CI=true.
bool shared_data_is_required();

// A folder for a test's own files, removed when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace spate::testing

// At the start of a test that needs shared data: skips it, visibly, where there is none, and fails it in CI.
#define SPATE_REQUIRE_SHARED(name)                                                         \
  do {                                                                                     \
    if (!::spate::testing::has_shared(name)) {                                             \
      if (::spate::testing::shared_data_is_required())                                     \
        FAIL() << "shared test data missing: " << ::spate::testing::shared_path(name);     \
      GTEST_SKIP() << "shared test data missing: " << ::spate::testing::shared_path(name); \
    }                                                                                      \
  } while (false)
