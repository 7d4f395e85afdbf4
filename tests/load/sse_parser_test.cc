#include "load/sse_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Events = std::vector<std::string>;

// The events of a stream that arrives in pieces of n bytes.
Events events_of(std::string_view stream, size_t n) {
  SseParser parser;
  Events events;
  for (size_t at = 0; at < stream.size(); at += n) {
    const Result<void> fed = parser.feed(stream.substr(at, n), [&](std::string_view data) {
      events.emplace_back(data);
      return true;
    });
    EXPECT_TRUE(fed.ok());
  }
  return events;
}

TEST(SseParser, AnyCut_GivesTheSameEvents) {
  const std::string stream =
      "\xEF\xBB\xBF: a comment\n\ndata: one\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\nid: 3\ndata:  spaced\rretry: "
      "5\r\r"
      "data\n\n: ping\n\nevent: nothing\n\ndatabase: no\n\ndata: {\"a\": \"b: c\"}\n\ndata: unfinished\n";
  for (size_t n = 1; n <= stream.size(); ++n)
    EXPECT_THAT(events_of(stream, n), ElementsAre("one", "two\nlines", " spaced", "", "{\"a\": \"b: c\"}")) << n;
}

TEST(SseParser, Consumer_MayEndIt) {
  SseParser parser;
  Events events;
  const auto take_one = [&](std::string_view data) {
    events.emplace_back(data);
    return false;
  };
  EXPECT_TRUE(parser.feed("data: 1\n\ndata: 2\n\n", take_one).ok());
  EXPECT_THAT(events, ElementsAre("1"));
}

TEST(SseParser, EventWithoutEnd_IsAnError) {
  const auto ignore = [](std::string_view) { return true; };
  const std::string piece(1 << 20, 'x');
  SseParser in_one_line, in_many_lines;
  Result<void> line = in_one_line.feed("data: ", ignore), lines = in_many_lines.feed("data: ", ignore);
  for (int i = 0; i < 16; ++i) {
    EXPECT_TRUE(line.ok() && lines.ok()) << i;
    line = in_one_line.feed(piece, ignore);
    lines = in_many_lines.feed(piece + "\ndata: ", ignore);
  }
  ASSERT_FALSE(line.ok());
  ASSERT_FALSE(lines.ok());
  EXPECT_THAT(lines.error().message, HasSubstr("more than 16 MiB"));
}

}  // namespace
}  // namespace spate::load
