// Who may call.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spate::http {

// Keeps digests of the keys, not the keys. Comparing takes the same time whatever the key shown and wherever it
// differs: digests are of one length, and all are compared in full.
class ApiKeys {
 public:
  explicit ApiKeys(std::span<const std::string> keys);

  bool empty() const { return digests_.empty(); }
  // The index of the key in an Authorization header's value, "Bearer KEY"; -1: it shows none of them.
  int find(std::string_view authorization) const;

 private:
  using Digest = std::array<uint8_t, 32>;  // SHA-256
  static Digest digest_of(std::string_view key);

  std::vector<Digest> digests_;
};

}  // namespace spate::http
