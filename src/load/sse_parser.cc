#include "load/sse_parser.h"

#include <algorithm>
#include <utility>

namespace spate::load {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

Result<void> SseParser::feed(std::string_view bytes, const std::function<bool(std::string_view data)>& on_data) {
  while (!bytes.empty()) {
    if (std::exchange(after_return_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const size_t end = bytes.find_first_of("\r\n");
    if (line_.size() + data_.size() + std::min(end, bytes.size()) > kMaxEventBytes)
      return Error::bad_file("event stream", fmt::format("has an event of more than {} MiB", kMaxEventBytes >> 20));
    line_ += bytes.substr(0, end);
    if (end == std::string_view::npos) return {};
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (at_start_ && line_.starts_with(kByteOrderMark)) line_.erase(0, kByteOrderMark.size());
    at_start_ = false;
    if (!line_.empty()) {
      take_line(line_);
      line_.clear();
      continue;
    }
    // An empty line ends an event.
    if (!has_data_) continue;
    data_.pop_back();
    has_data_ = false;
    const std::string data = std::move(data_);
    data_.clear();
    if (!on_data(data)) return {};
  }
  return {};
}

void SseParser::take_line(std::string_view line) {
  constexpr std::string_view kField = "data";
  const size_t colon = std::min(line.find(':'), line.size());
  if (line.substr(0, colon) != kField) return;
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  data_ += value;
  data_ += '\n';
  has_data_ = true;
}

}  // namespace spate::load
