#include "server/http/request_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::http {
namespace {

using State = RequestReader::State;

// Feeds the text as a connection would, n_at_once bytes more at a time; what is left over.
std::string read_in_parts(RequestReader& reader, std::string_view text, size_t n_at_once) {
  std::string input;
  while (reader.state() == State::kHeader || reader.state() == State::kBody) {
    const std::string_view part = text.substr(0, n_at_once);
    text.remove_prefix(part.size());
    input += part;
    size_t n_taken;
    do {
      n_taken = reader.feed(input);
      input.erase(0, n_taken);
    } while (n_taken > 0);
    if (part.empty()) break;
  }
  return input + std::string(text);
}

int status_of(std::string_view text) {
  RequestReader reader(1024, 64);
  read_in_parts(reader, text, text.size());
  return reader.state() == State::kFailed ? reader.error().status : 0;
}

TEST(RequestReader, BodyByLength_InPartsOfAnySize_IsTheSame) {
  constexpr std::string_view kText =
      "POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nX-Two:  b c \r\nContent-Length: 10\r\n\r\n0123456789GET /next";
  for (size_t n = 1; n <= kText.size(); ++n) {
    RequestReader reader(1024, 64);
    EXPECT_EQ(read_in_parts(reader, kText, n), "GET /next");
    ASSERT_EQ(reader.state(), State::kComplete);
    EXPECT_EQ(reader.head().method, "POST");
    EXPECT_EQ(reader.head().target, "/v1/x?y=1");
    EXPECT_EQ(reader.head().content_length, 10);
    EXPECT_EQ(reader.head().headers.at(1).value, "b c");
    EXPECT_EQ(reader.take_body(), "0123456789");
  }
}

TEST(RequestReader, BodyInChunks_InPartsOfAnySize_IsTheSame) {
  constexpr std::string_view kText =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
      "4;name=value\r\n0123\r\n6\r\n456789\r\n0\r\nTrailer: x\r\n\r\nGET /next";
  for (size_t n = 1; n <= kText.size(); ++n) {
    RequestReader reader(1024, 64);
    EXPECT_EQ(read_in_parts(reader, kText, n), "GET /next");
    ASSERT_EQ(reader.state(), State::kComplete) << n;
    EXPECT_TRUE(reader.head().chunked);
    EXPECT_EQ(reader.take_body(), "0123456789");
  }
}

TEST(RequestReader, NoBody_IsCompleteWithItsHeader) {
  RequestReader reader(1024, 64);
  EXPECT_EQ(read_in_parts(reader, "GET / HTTP/1.0\r\n\r\nmore", 100), "more");
  EXPECT_EQ(reader.state(), State::kComplete);
  EXPECT_FALSE(reader.head().http_1_1);
  EXPECT_FALSE(reader.head().keep_alive);
}

TEST(RequestReader, TwoLengths_AreRefused) {
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
            400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), 400);
}

TEST(RequestReader, UnknownTransferEncodings_AreRefused) {
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), 501);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
            501);
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
}

TEST(RequestReader, WhatIsNoHttp_IsRefused) {
  EXPECT_EQ(status_of("\x16\x03\x01\x02\x01 TLS hello\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET /\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
}

TEST(RequestReader, Host_IsThereOnce) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 0);
}

TEST(RequestReader, LimitsInBytes_AreKept) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(2000, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(status_of("GET /" + std::string(2000, 'x')), 431);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n"), 413);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n" + std::string(65, 'x')),
            413);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 64\r\n\r\n" + std::string(64, 'x')), 0);
}

TEST(RequestReader, Expectations_OnlyContinueIsMet) {
  RequestReader reader(1024, 64);
  read_in_parts(reader, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n", 100);
  EXPECT_EQ(reader.state(), State::kBody);
  EXPECT_TRUE(reader.head().expects_continue);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc"), 417);
}

}  // namespace
}  // namespace spate::http
