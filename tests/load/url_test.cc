#include "load/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::load {
namespace {

TEST(Url, Parts) {
  const struct {
    const char *text, *host, *port, *authority, *target;
    bool tls;
  } cases[] = {
      {"http://127.0.0.1:8080", "127.0.0.1", "8080", "127.0.0.1:8080", "/v1/completions", false},
      {"http://127.0.0.1:8080/", "127.0.0.1", "8080", "127.0.0.1:8080", "/v1/completions", false},
      {"localhost:9", "localhost", "9", "localhost:9", "/v1/completions", false},
      {"http://host", "host", "80", "host", "/v1/completions", false},
      {"https://host/v1", "host", "443", "host", "/v1/completions", true},
      {"https://host:80/api/v1/", "host", "80", "host:80", "/api/v1/completions", true},
      {"http://host/api", "host", "80", "host", "/api/v1/completions", false},
      {"http://[::1]:8080/x", "::1", "8080", "[::1]:8080", "/x/v1/completions", false},
      {"http://[::1]", "::1", "80", "[::1]", "/v1/completions", false},
  };
  for (const auto& c : cases) {
    const Result<Url> url = Url::parse(c.text);
    ASSERT_TRUE(url.ok()) << c.text;
    EXPECT_EQ(url->host, c.host) << c.text;
    EXPECT_EQ(url->port, c.port) << c.text;
    EXPECT_EQ(url->authority(), c.authority) << c.text;
    EXPECT_EQ(url->target("/v1/completions"), c.target) << c.text;
    EXPECT_EQ(url->tls, c.tls) << c.text;
  }
}

TEST(Url, Nonsense_IsAnError) {
  for (const char* text : {"", "http://", "ftp://host", "http://host:", "http://host:0", "http://host:65536",
                           "http://host:8x", "http://user@host", "http://host/a?b", "http://host/#c", "http://ho st",
                           "http://host/a\r\nX: y", "http://[::1", "http://[::1]x", "http:///v1", "http://h\xC3\xA9"}) {
    const Result<Url> url = Url::parse(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_THAT(url.error().message, ::testing::HasSubstr("is no address of a server"));
  }
}

}  // namespace
}  // namespace spate::load
