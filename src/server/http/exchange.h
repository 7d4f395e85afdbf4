// The handler's end of an answer.
#pragma once

#include <fmt/core.h>
#include <memory>
#include <string>
#include <utility>

#include "server/http/answer.h"
#include "server/http/shared_state.h"
#include "server/http/text.h"

namespace spate::http {

class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(HttpRequest request, ByteLease body_lease, std::shared_ptr<Answer> answer,
                     std::shared_ptr<const std::string> internal_error)
      : request_(std::move(request)),
        body_lease_(std::move(body_lease)),
        answer_(std::move(answer)),
        internal_error_(std::move(internal_error)) {}
  ~ConnectionExchange() override { answer_->abandon(*internal_error_); }

  const HttpRequest& request() const override { return request_; }
  void release_body() override {
    request_.body = std::string();
    const ByteLease given_back = std::move(body_lease_);
  }

  void respond(int status, std::string_view content_type, std::string body, Headers extra) override {
    answer_->respond(status, content_type, std::move(body), extra);
  }
  void begin_events(Headers extra) override { answer_->begin_events(extra); }
  void event(std::string_view data) override { answer_->event(data); }
  void comment(std::string_view text) override { answer_->comment(text); }
  void end_events() override { answer_->end_events(); }
  void on_close(std::function<void()> closed) override { answer_->on_close(std::move(closed)); }
  bool is_open() const override { return answer_->is_open(); }

  void annotate(std::string_view name, std::string_view value) override { answer_->annotate(name, log_value(value)); }
  void annotate(std::string_view name, int64_t value) override { answer_->annotate(name, fmt::format("{}", value)); }
  void annotate(std::string_view name, double value) override { answer_->annotate(name, fmt::format("{:.6g}", value)); }

 private:
  HttpRequest request_;
  ByteLease body_lease_;
  const std::shared_ptr<Answer> answer_;
  const std::shared_ptr<const std::string> internal_error_;
};

}  // namespace spate::http
