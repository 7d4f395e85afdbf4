// `spate serve` of the bundled model, on a free port of this machine.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include "app/subprocess.h"

namespace spate::testing {

class ServingProcess {
 public:
  // Waits for the line that says where it serves.
  ServingProcess() : process({"serve", "--port", "0", "--device", "cpu", "--max-seqs", "4"}) {
    constexpr std::string_view kBefore = "http://127.0.0.1:";
    std::string line;
    while (!line.ends_with('\n')) {
      const std::string more = process.read_some();
      if (more.empty()) break;
      line += more;
    }
    const size_t at = line.find(kBefore);
    EXPECT_NE(at, std::string::npos) << line << process.error_so_far();
    if (at != std::string::npos) port = static_cast<uint16_t>(std::atoi(line.c_str() + at + kBefore.size()));
  }

  SpateProcess process;
  uint16_t port = 0;
};

}  // namespace spate::testing
