// From a KV type and a head size that are known when the program runs to those that a kernel was compiled for.
#pragma once

#include "backend/cuda/kv_pool.h"
#include "base/check.h"

namespace spate::cuda {

// Calls launch.template operator()<type, head_dim>(); CHECKs that there is a kernel (has_attention_kernel()).
template <typename Launch>
void with_attention_kernel(KvType type, int head_dim, const Launch& launch) {
  const auto with_dim = [&]<KvType kType>() {
    switch (head_dim) {
      case 64:
        return launch.template operator()<kType, 64>();
      case 80:
        return launch.template operator()<kType, 80>();
      case 96:
        return launch.template operator()<kType, 96>();
      case 128:
        return launch.template operator()<kType, 128>();
      case 256:
        return launch.template operator()<kType, 256>();
      default:
        SPATE_CHECK(false, "no attention kernel for heads of {}", head_dim);
    }
  };
  switch (type) {
    case KvType::kF16:
      return with_dim.template operator()<KvType::kF16>();
    case KvType::kQ8_0:
      return with_dim.template operator()<KvType::kQ8_0>();
    case KvType::kFp8:
      return with_dim.template operator()<KvType::kFp8>();
  }
}

}  // namespace spate::cuda
