#include "server/api/json_body.h"

#include <algorithm>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace spate::api {
namespace {

constexpr size_t kMaxNameBytes = 64;  // of a member, as a message shows it
constexpr size_t kMaxPathBytes = 128;

// Builds the value that the parser's events describe, and stops it at the first thing that is not acceptable. The
// members of an object are put together when it ends: its container would copy all it holds each time that it grows.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  Json& root() { return root_; }
  const ApiError& error() const { return error_; }

  bool null() override { return place(nullptr); }
  bool boolean(bool value) override { return place(value); }
  bool number_integer(number_integer_t value) override { return place(value); }
  bool number_unsigned(number_unsigned_t value) override { return place(value); }
  bool number_float(number_float_t value, const string_t&) override { return place(value); }
  bool string(string_t& value) override { return place(std::move(value)); }
  bool binary(binary_t&) override { return fail("the body holds binary data"); }

  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    if (frame.members.size() >= limits_.max_members)
      return fail(fmt::format("an object has more than {} members", limits_.max_members));
    frame.members.emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() override;
  bool end_array() override;

  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& exception) override {
    constexpr int kOutOfRange = 406;
    const std::string_view why = exception.id == kOutOfRange ? "a number that is out of range" : "no JSON";
    error_ = ApiError::invalid(fmt::format("the body has {} at byte {}", why, byte));
    error_.code = "invalid_json";
    return false;
  }

 private:
  struct Frame {
    bool is_object;
    std::vector<std::pair<std::string, Json>> members;  // the last one's value is what comes next
    std::vector<Json> elements;
  };

  bool open(bool is_object);
  bool place(Json value);
  // "messages[2].content": what comes next, or the container that is open.
  std::string path() const;
  bool fail(std::string message) {
    error_ = ApiError::invalid(std::move(message));
    error_.code = "invalid_json";
    if (std::string at = path(); !at.empty()) error_.param = std::move(at);
    return false;
  }

  const JsonLimits& limits_;
  std::vector<Frame> frames_;
  Json root_;
  size_t n_values_ = 0;
  ApiError error_;
};

std::string Builder::path() const {
  std::string path;
  for (const Frame& frame : frames_) {
    if (path.size() > kMaxPathBytes) return path + "...";
    if (!frame.is_object) {
      path += fmt::format("[{}]", frame.elements.size());
    } else if (!frame.members.empty()) {
      const std::string& name = frame.members.back().first;
      path += path.empty() ? "" : ".";
      path += name.substr(0, complete_utf8_prefix(std::string_view(name).substr(0, kMaxNameBytes)));
    }
  }
  return path;
}

bool Builder::open(bool is_object) {
  if (static_cast<int>(frames_.size()) >= limits_.max_depth)
    return fail(fmt::format("the body is nested more than {} deep", limits_.max_depth));
  frames_.push_back({.is_object = is_object, .members = {}, .elements = {}});
  return true;
}

bool Builder::place(Json value) {
  if (++n_values_ > limits_.max_values)
    return fail(fmt::format("the body has more than {} values", limits_.max_values));
  if (frames_.empty()) {
    root_ = std::move(value);
  } else if (frames_.back().is_object) {
    frames_.back().members.back().second = std::move(value);
  } else {
    frames_.back().elements.push_back(std::move(value));
  }
  return true;
}

bool Builder::end_object() {
  auto members = std::move(frames_.back().members);
  std::vector<std::string_view> names;
  names.reserve(members.size());
  for (const auto& [name, value] : members) names.push_back(name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  frames_.pop_back();
  if (twice != names.end()) return fail(fmt::format("the member {} is there twice", quote(*twice, kMaxNameBytes)));
  Json object = Json::object();
  auto& out = object.get_ref<Json::object_t&>();
  out.reserve(members.size());
  for (auto& [name, value] : members) out.emplace_back(std::move(name), std::move(value));
  return place(std::move(object));
}

bool Builder::end_array() {
  Json array = Json::array();
  array.get_ref<Json::array_t&>() = std::move(frames_.back().elements);
  frames_.pop_back();
  return place(std::move(array));
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const DecodedUtf8 decoded = decode_utf8(text.substr(at));
    if (!decoded.valid) break;
    at += static_cast<size_t>(decoded.n_bytes);
  }
  return at;
}

}  // namespace

ApiResult<Json> parse_body(std::string_view body, const JsonLimits& limits) {
  if (body.empty()) return ApiError::invalid("the body is empty; it should be a JSON object");
  if (!is_valid_utf8(body)) {
    ApiError error = ApiError::invalid(fmt::format("the body is not UTF-8 from byte {} on", valid_utf8_prefix(body)));
    error.code = "invalid_json";
    return error;
  }
  Builder builder(limits);
  if (!Json::sax_parse(body.begin(), body.end(), &builder)) return builder.error();
  if (!builder.root().is_object()) return ApiError::invalid("the body is JSON, but no object");
  return std::move(builder.root());
}

}  // namespace spate::api
