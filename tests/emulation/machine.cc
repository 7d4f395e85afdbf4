// The machine's state, its options and its dice.
#include "machine.h"

#include <cstdlib>

namespace emu {
namespace {

long number_of(const char* variable, long otherwise, long low, long high) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < low || value > high)
    die("%s is '%s', and not a number from %ld to %ld", variable, text, low, high);
  return value;
}

}  // namespace

const Options& options() {
  static const Options all{.seed = static_cast<unsigned>(number_of("SPATE_EMU_SEED", 1, 0, 0x7fffffff)),
                           .n_sms = static_cast<int>(number_of("SPATE_EMU_SMS", 8, 1, 1024)),
                           .trace = number_of("SPATE_EMU_TRACE", 0, 0, 1) != 0};
  return all;
}

Machine machine = [] {
  Machine m;
  m.chance.seed(options().seed);
  m.elected_lane = static_cast<int>(m.chance() % kWarpThreads);
  return m;
}();

bool toss(unsigned of_16) {
  static uint32_t bits = 0;
  static int n_left = 0;
  if (n_left == 0) {
    bits = static_cast<uint32_t>(machine.chance());
    n_left = 8;
  }
  const bool yes = (bits & 15) < of_16;
  bits >>= 4;
  --n_left;
  return yes;
}

}  // namespace emu
