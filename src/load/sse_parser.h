// Server-sent events, as they arrive in pieces of any size (WHATWG HTML, "Interpreting an event stream").
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace spate::load {

class SseParser {
 public:
  // Calls on_data with the data of each event that the bytes complete, the lines of several `data` fields joined by
  // newlines. Events without data are none; comments and other fields are passed over. on_data returns false to end.
  // Error kBadFile: a line or an event of more than kMaxEventBytes.
  Result<void> feed(std::string_view bytes, const std::function<bool(std::string_view data)>& on_data);

  static constexpr size_t kMaxEventBytes = size_t{16} << 20;

 private:
  void take_line(std::string_view line);

  std::string line_;  // the beginning of a line whose end has not come
  std::string data_;  // of the event that is being read, a newline behind each line
  bool has_data_ = false;
  bool after_return_ = false;  // a "\n" that comes next belongs to the "\r" before it
  bool at_start_ = true;
};

}  // namespace spate::load
