#include "chat/json_reader.h"

#include <algorithm>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace spate::chat {
namespace {

constexpr size_t kMaxNameBytes = 64;  // of a member, as a message shows it
constexpr size_t kMaxPathBytes = 128;

// Builds the value that the parser's events describe, and stops it at the first thing that is not acceptable. The
// members of an object are put together when it ends: its container would look for each among all before it, and copy
// all it holds each time that it grows.
class JsonBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit JsonBuilder(const JsonLimits& limits) : limits_(limits) {}

  Json& root() { return root_; }
  const JsonProblem& problem() const { return problem_; }

  bool null() override { return place(nullptr); }
  bool boolean(bool value) override { return place(value); }
  bool number_integer(number_integer_t value) override { return place(value); }
  bool number_unsigned(number_unsigned_t value) override { return place(value); }
  bool number_float(number_float_t value, const string_t&) override { return place(value); }
  bool string(string_t& value) override { return place(std::move(value)); }
  bool binary(binary_t&) override { return fail("holds binary data"); }

  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    if (frame.members.size() >= limits_.max_members)
      return fail(fmt::format("has an object of more than {} members", limits_.max_members));
    frame.members.emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() override;
  bool end_array() override;

  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& exception) override {
    constexpr int kOutOfRange = 406;
    problem_.what = exception.id == kOutOfRange
                        ? fmt::format("is not JSON that can be represented: a number is out of range at byte {}", byte)
                        : fmt::format("is not JSON from byte {} on", byte);
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
  bool fail(std::string what) {
    problem_ = {.what = std::move(what), .path = path()};
    return false;
  }

  const JsonLimits& limits_;
  std::vector<Frame> frames_;
  Json root_;
  size_t n_values_ = 0;
  JsonProblem problem_;
};

std::string JsonBuilder::path() const {
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

bool JsonBuilder::open(bool is_object) {
  if (static_cast<int>(frames_.size()) >= limits_.max_depth)
    return fail(fmt::format("is nested more than {} deep", limits_.max_depth));
  frames_.push_back({.is_object = is_object, .members = {}, .elements = {}});
  return true;
}

bool JsonBuilder::place(Json value) {
  if (++n_values_ > limits_.max_values) return fail(fmt::format("has more than {} values", limits_.max_values));
  if (frames_.empty()) {
    root_ = std::move(value);
  } else if (frames_.back().is_object) {
    frames_.back().members.back().second = std::move(value);
  } else {
    frames_.back().elements.push_back(std::move(value));
  }
  return true;
}

bool JsonBuilder::end_object() {
  auto members = std::move(frames_.back().members);
  std::vector<std::string_view> names;
  names.reserve(members.size());
  for (const auto& [name, value] : members) names.push_back(name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  frames_.pop_back();
  if (twice != names.end()) return fail(fmt::format("has the member {} twice", quote(*twice, kMaxNameBytes)));
  Json object = Json::object();
  auto& out = object.get_ref<Json::object_t&>();
  out.reserve(members.size());
  for (auto& [name, value] : members) out.emplace_back(std::move(name), std::move(value));
  return place(std::move(object));
}

bool JsonBuilder::end_array() {
  Json array = Json::array();
  array.get_ref<Json::array_t&>() = std::move(frames_.back().elements);
  frames_.pop_back();
  return place(std::move(array));
}

}  // namespace

std::optional<JsonProblem> read_json(std::string_view text, const JsonLimits& limits, Json& value) {
  JsonBuilder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return builder.problem();
  value = std::move(builder.root());
  return std::nullopt;
}

}  // namespace spate::chat
