// The inputs that fuzzing found to reach all of the interpreter (fuzz/run), through the fuzz target again: it aborts on
// origins that do not cover the output, or that take the request's bytes for the template's.
#include <gtest/gtest.h>

#include "base/utf8.h"

#include "jinja_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace spate::testing {
namespace {

TEST(FuzzCorpus, EveryInput_EndsInATextOrAnError) {
  const Json inputs = read_json(SPATE_JINJA_CORPUS);
  EXPECT_GT(inputs.size(), 1000u);
  for (const Json& input : inputs) {
    // Characters stand for bytes: U+0000 to U+00FF.
    std::string bytes;
    std::string_view text = input.get_ref<const std::string&>();
    while (!text.empty()) {
      const DecodedUtf8 c = decode_utf8(text);
      bytes += static_cast<char>(c.codepoint);
      text.remove_prefix(static_cast<size_t>(c.n_bytes));
    }
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
  }
}

}  // namespace
}  // namespace spate::testing
