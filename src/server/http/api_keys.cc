#include "server/http/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "server/http/text.h"

namespace spate::http {

ApiKeys::ApiKeys(std::span<const std::string> keys) {
  for (const std::string& key : keys) digests_.push_back(digest_of(key));
}

ApiKeys::Digest ApiKeys::digest_of(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

int ApiKeys::find(std::string_view authorization) const {
  constexpr std::string_view kScheme = "Bearer";
  if (!equal_ignoring_case(authorization.substr(0, kScheme.size()), kScheme)) return -1;
  authorization.remove_prefix(kScheme.size());
  const size_t start = authorization.find_first_not_of(' ');
  if (start == 0 || start == std::string_view::npos) return -1;
  const Digest shown = digest_of(authorization.substr(start));
  int found = -1;
  for (size_t i = 0; i < digests_.size(); ++i)
    if (CRYPTO_memcmp(shown.data(), digests_[i].data(), shown.size()) == 0) found = static_cast<int>(i);
  return found;
}

}  // namespace spate::http
