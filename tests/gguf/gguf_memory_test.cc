// What a hostile count makes the reader allocate: nothing that the file could not justify. Every allocation of this
// executable goes through the counting operator new below.
#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>

#include "gguf/gguf_file.h"

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace {
std::atomic<size_t> allocated_bytes{0};
}

// Not inlined: gcc 12 would see memory of new freed with free().
[[gnu::noinline]] void* operator new(size_t n_bytes) {
  allocated_bytes += n_bytes;
  if (void* memory = std::malloc(n_bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace spate {
namespace {

using testing::GgufBuilder;

// Bytes allocated, freed or not, while the file is opened, which must fail or not as told.
size_t bytes_to_open(const std::string& bytes, bool valid) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  testing::write_file(path, bytes);
  const size_t before = allocated_bytes;
  const Result<GgufFile> file = GgufFile::open(path);
  const size_t used = allocated_bytes - before;
  EXPECT_EQ(file.ok(), valid) << (file.ok() ? "" : file.error().message);
  return used;
}

constexpr size_t kMessages = 16 << 10;  // the error's text and what building it takes

TEST(GgufMemory, CountingWorks) {
  const size_t before = allocated_bytes;
  const std::vector<char> block(12345);
  EXPECT_GE(allocated_bytes - before, block.size());
}

TEST(GgufMemory, HostileCounts_AllocateNothingForTheirEntries) {
  for (uint64_t count : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 60, uint64_t{1} << 32, uint64_t{1} << 20}) {
    EXPECT_LT(bytes_to_open(GgufBuilder().header(count, 0).data(999).text(), false), kMessages) << count;
    EXPECT_LT(bytes_to_open(GgufBuilder().header(0, count).data(999).text(), false), kMessages) << count;
    const auto entry = [] { return GgufBuilder().header(0, 1); };
    EXPECT_LT(bytes_to_open(entry().put(count).data(999).text(), false), kMessages) << count;
    EXPECT_LT(bytes_to_open(entry().key("a", 8).put(count).data(999).text(), false), kMessages) << count;
    for (uint32_t type = 0; type < 13; ++type)
      EXPECT_LT(bytes_to_open(entry().key("a", 9).array(type, count).data(999).text(), false), kMessages)
          << count << " of type " << type;
    EXPECT_LT(bytes_to_open(GgufBuilder().header(1, 0).tensor("w", {count}, 24, 0).pad().data(999).text(), false),
              kMessages)
        << count;
  }
}

TEST(GgufMemory, ArrayOfEmptyStrings_TakesTwiceItsBytes) {
  constexpr uint64_t kStrings = 100'000;  // 8 bytes each in the file, a view of 16 in memory
  const std::string strings(8 * kStrings, '\0');
  EXPECT_LT(bytes_to_open(GgufBuilder().header(0, 1).key("a", 9).array(8, kStrings).bytes(strings).text(), true),
            2 * strings.size() + kMessages);
}

TEST(GgufMemory, NumericArray_IsNotCopied) {
  EXPECT_LT(bytes_to_open(GgufBuilder().header(0, 1).key("a", 9).array(6, 1 << 20).data(4 << 20).text(), true),
            kMessages);
}

}  // namespace
}  // namespace spate
