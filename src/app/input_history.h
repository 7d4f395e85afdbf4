// What a user typed before, in a file of their own: one entry a line, newlines and backslashes within it as \n and \\.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace spate::app {

class InputHistory {
 public:
  // $XDG_STATE_HOME/spate/chat_history, by default under ~/.local/state (XDG Base Directory Specification); empty where
  // there is no home either.
  static std::string default_path();

  // Reads the file, if there is one, and makes sure that nobody but its owner can read it; makes the folders that it
  // needs. Keeps the newest kMaxEntries, in the file too. Error kIo.
  static Result<InputHistory> open(std::string path);

  // Oldest first.
  const std::vector<std::string>& entries() const { return entries_; }
  // Adds an entry here and to the file, unless it repeats the one before or is longer than kMaxEntryBytes. Error kIo.
  Result<void> add(std::string_view entry);

  static constexpr size_t kMaxEntries = 1000;
  static constexpr size_t kMaxEntryBytes = 16384;

 private:
  explicit InputHistory(std::string path) : path_(std::move(path)) {}

  Result<void> trim();

  std::string path_;
  std::vector<std::string> entries_;
};

}  // namespace spate::app
