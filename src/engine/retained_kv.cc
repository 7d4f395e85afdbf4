#include "engine/retained_kv.h"

#include <algorithm>

namespace spate {

int RetainedKv::n_reusable(std::span<const int32_t> prompt) const {
  if (prompt.empty()) return 0;
  const size_t n_most = std::min(tokens.size(), prompt.size() - 1);
  const auto differs = std::mismatch(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n_most), prompt.begin());
  return static_cast<int>(differs.first - tokens.begin());
}

}  // namespace spate
