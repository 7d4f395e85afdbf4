#include "app/standard_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"

namespace spate::app {
namespace {

// Puts one end of a pipe in the place of a standard stream for as long as it lives, and that end does not block: as ssh
// leaves the terminal that it shares with us.
class NonBlockingPipeAt {
 public:
  explicit NonBlockingPipeAt(int stream) : stream_(stream), saved_(dup(stream)) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe(ends), 0);
    const int ours = stream == STDIN_FILENO ? ends[0] : ends[1];
    other_end_ = stream == STDIN_FILENO ? ends[1] : ends[0];
    EXPECT_EQ(fcntl(ours, F_SETFL, O_NONBLOCK), 0);
    EXPECT_EQ(dup2(ours, stream), stream);
    close(ours);
  }
  ~NonBlockingPipeAt() {
    restore();
    close_other_end();
  }
  NonBlockingPipeAt(const NonBlockingPipeAt&) = delete;
  NonBlockingPipeAt& operator=(const NonBlockingPipeAt&) = delete;

  int other_end() const { return other_end_; }
  void close_other_end() {
    if (other_end_ >= 0) close(other_end_);
    other_end_ = -1;
  }
  void restore() {
    if (saved_ < 0) return;
    dup2(saved_, stream_);
    close(saved_);
    saved_ = -1;
  }

 private:
  int stream_, saved_, other_end_ = -1;
};

const std::string& more_than_a_pipe_holds() {
  static const std::string text = [] {
    std::string bytes;
    for (int i = 0; i < 1'000'000; ++i) bytes += static_cast<char>(i % 251);
    return bytes;
  }();
  return text;
}

TEST(StandardOutput, StreamThatDoesNotBlock_IsWaitedFor) {
  NonBlockingPipeAt pipe(STDOUT_FILENO);
  std::string received;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(pipe.other_end(), buffer, sizeof buffer)) > 0;) received.append(buffer, n);
  });
  StandardOutput out;
  out.write(more_than_a_pipe_holds());
  pipe.restore();  // the last writing end: the reader sees the end
  reader.join();
  EXPECT_TRUE(out.finish().ok()) << out.finish().error().message;
  EXPECT_TRUE(received == more_than_a_pipe_holds()) << received.size() << " bytes arrived";
}

TEST(StandardInput, StreamThatDoesNotBlock_IsWaitedFor) {
  NonBlockingPipeAt pipe(STDIN_FILENO);
  std::thread writer([&] {
    const std::string_view text = more_than_a_pipe_holds();
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = write(pipe.other_end(), text.data() + at, text.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    pipe.close_other_end();
  });
  const Result<std::string> text = read_file("-");
  writer.join();
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_TRUE(*text == more_than_a_pipe_holds()) << text->size() << " bytes arrived";
}

}  // namespace
}  // namespace spate::app
