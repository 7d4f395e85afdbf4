// Which instruction sets the linear and the ops tests can run: those of this processor (linear_isas_native.cc), or
// those whose instructions the test brings along (linear_isas_emulated.cc).
#pragma once

#include <string>
#include <vector>

#include "backend/cpu/linear_tiles.h"
#include "base/cpu_features.h"

namespace spate::testing {

bool can_run(Isa isa);

inline std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kAllIsas)
    if (can_run(isa)) isas.push_back(isa);
  return isas;
}

// The ways in which products are computed: an instruction set, without or with its tiles for however few tokens.
struct LinearTier {
  Isa isa;
  bool tiles = false;

  std::string name() const { return std::string(isa_name(isa)) + (tiles ? "_tiles" : ""); }
  int tile_min_tokens() const { return tiles ? 1 : cpu::kNoTiles; }
};

inline std::vector<LinearTier> runnable_tiers() {
  std::vector<LinearTier> tiers;
  for (Isa isa : runnable_isas()) tiers.push_back({.isa = isa});
  if (can_run(Isa::kAmx)) tiers.push_back({.isa = Isa::kAmx, .tiles = true});
  return tiers;
}

}  // namespace spate::testing
