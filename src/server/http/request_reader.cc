#include "server/http/request_reader.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <utility>

#include "base/check.h"
#include "server/http/text.h"

namespace spate::http {
namespace {

namespace beast_http = boost::beast::http;

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

TransportError error_of(const boost::beast::error_code& code) {
  using beast_http::error;
  if (code == error::header_limit) return {431, "header_too_large", "the request's header is too large"};
  if (code == error::body_limit) return {413, "payload_too_large", "the request's body is too large"};
  if (code == error::bad_version) return {505, "http_version_not_supported", "only HTTP/1.0 and HTTP/1.1 are served"};
  if (code == error::bad_transfer_encoding || code == error::bad_content_length ||
      code == error::multiple_content_length)
    return {400, "bad_request", "the request's Content-Length and Transfer-Encoding do not give its length"};
  if (code == error::bad_chunk || code == error::bad_chunk_extension)
    return {400, "bad_request", "the request's body is not in well-formed chunks"};
  return {400, "bad_request", "this is no well-formed HTTP request"};
}

}  // namespace

struct RequestReader::Impl {
  beast_http::request_parser<beast_http::string_body> parser;
  State state = State::kHeader;
  RequestHead head;
  TransportError error;

  void fail(const TransportError& why) {
    error = why;
    state = State::kFailed;
  }

  // The framing that Beast lets pass: any Transfer-Encoding beside "chunked", and HTTP/1.0 with one.
  std::optional<TransportError> check_framing() const {
    const auto& message = parser.get();
    const auto encodings = message.count(beast_http::field::transfer_encoding);
    if (encodings > 0 && message.count(beast_http::field::content_length) > 0)
      return TransportError{400, "bad_request",
                            "a request has either a Content-Length or a Transfer-Encoding, not both"};
    if (encodings > 0 && !head.http_1_1) return TransportError{400, "bad_request", "HTTP/1.0 has no Transfer-Encoding"};
    if (encodings > 1 ||
        (encodings == 1 && !equal_ignoring_case(view(message[beast_http::field::transfer_encoding]), "chunked")))
      return TransportError{501, "not_implemented", "the only Transfer-Encoding that is understood is chunked"};
    const auto n_hosts = message.count(beast_http::field::host);
    if (n_hosts > 1 || (n_hosts == 0 && head.http_1_1))
      return TransportError{400, "bad_request", "a request has one Host header"};
    return std::nullopt;
  }

  void take_head() {
    const auto& message = parser.get();
    head.method = view(message.method_string());
    head.target = view(message.target());
    head.http_1_1 = message.version() >= 11;
    head.keep_alive = message.keep_alive();
    head.chunked = parser.chunked();
    if (const auto length = parser.content_length())
      head.content_length = static_cast<int64_t>(std::min<uint64_t>(*length, std::numeric_limits<int64_t>::max()));
    for (const auto& field : message)
      head.headers.push_back({std::string(view(field.name_string())), std::string(view(field.value()))});
    if (const auto problem = check_framing()) return fail(*problem);
    if (const auto expect = message.find(beast_http::field::expect); expect != message.end() && head.http_1_1) {
      head.expects_continue = equal_ignoring_case(view(expect->value()), "100-continue");
      if (!head.expects_continue) return fail({417, "expectation_failed", "the only Expect is 100-continue"});
    }
    state = parser.is_done() || !head.has_body() ? State::kComplete : State::kBody;
  }
};

RequestReader::RequestReader(int64_t max_header_bytes, int64_t max_body_bytes) : impl_(std::make_unique<Impl>()) {
  impl_->parser.header_limit(
      static_cast<uint32_t>(std::min<int64_t>(max_header_bytes, std::numeric_limits<int32_t>::max())));
  impl_->parser.body_limit(static_cast<uint64_t>(max_body_bytes));
  impl_->parser.eager(false);
}

RequestReader::~RequestReader() = default;
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader& RequestReader::operator=(RequestReader&&) noexcept = default;

RequestReader::State RequestReader::state() const {
  return impl_->state;
}

size_t RequestReader::feed(std::string_view bytes) {
  size_t n_taken = 0;
  while (state() == State::kHeader || state() == State::kBody) {
    boost::beast::error_code code;
    const std::string_view left = bytes.substr(n_taken);
    if (left.empty()) break;
    const size_t n = impl_->parser.put(boost::asio::buffer(left.data(), left.size()), code);
    n_taken += n;
    if (code == beast_http::error::need_more) break;
    if (code) {
      impl_->fail(error_of(code));
      break;
    }
    if (state() == State::kHeader && impl_->parser.is_header_done()) {
      impl_->take_head();
      break;
    }
    if (impl_->parser.is_done()) impl_->state = State::kComplete;
    if (n == 0) break;
  }
  return n_taken;
}

const RequestHead& RequestReader::head() const {
  return impl_->head;
}

int64_t RequestReader::body_bytes() const {
  return static_cast<int64_t>(impl_->parser.get().body().size());
}

std::string RequestReader::take_body() {
  SPATE_CHECK(state() == State::kComplete);
  return std::move(impl_->parser.get().body());
}

const TransportError& RequestReader::error() const {
  SPATE_CHECK(state() == State::kFailed);
  return impl_->error;
}

}  // namespace spate::http
