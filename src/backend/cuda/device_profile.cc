#include "backend/cuda/device_profile.h"

#include <algorithm>
#include <charconv>
#include <cuda_runtime_api.h>
#include <iterator>

#include "backend/cuda/cluster_room.h"
#include "backend/cuda/cuda_check.h"

namespace spate::cuda {

namespace {

struct Threshold {
  std::string_view name;
  int DeviceProfile::*value;
  int min, max;
};

// By estimate, for an 8B model on an H200: here what a matrix costs to decode, 0.1 ms a layer, is won back by E4M3
// against weights that are decoded within the product, for which sums of as many tokens take 0.2 ms longer.
constexpr int kFp8MinTokens = 384;

constexpr std::string_view kStreamTokens = "stream_tokens";
constexpr std::string_view kStreamKSplit = "stream_k_split";
constexpr std::string_view kStreamInt8Tokens = "stream_int8_tokens";
constexpr std::string_view kWideMinTokens = "wide_min_tokens";
constexpr std::string_view kAttentionCluster = "attention_cluster";
constexpr Threshold kThresholds[] = {
    {kStreamTokens, &DeviceProfile::stream_tokens, 0, 8},
    {"stream_decoded_tokens", &DeviceProfile::stream_decoded_tokens, 0, 8},
    {"stream_warps", &DeviceProfile::stream_warps, 4, 22},
    {kStreamKSplit, &DeviceProfile::stream_k_split, 0, 4},
    {kStreamInt8Tokens, &DeviceProfile::stream_int8_tokens, 0, 1},
    {"stream_int8_warps", &DeviceProfile::stream_int8_warps, 4, 16},
    {"early_kib", &DeviceProfile::early_kib, 0, 1024},
    {"early_int8_kib", &DeviceProfile::early_int8_kib, 0, 1024},
    {"fused_norm_tokens", &DeviceProfile::fused_norm_tokens, 0, 1 << 20},
    {"wide_norm_tokens", &DeviceProfile::wide_norm_tokens, 0, 1 << 20},
    {kWideMinTokens, &DeviceProfile::wide_min_tokens, 0, 1 << 20},
    {"wide_cluster", &DeviceProfile::wide_cluster, 1, kMaxCluster},
    {"gemm_min_tokens", &DeviceProfile::gemm_min_tokens, 1, 1 << 20},
    {"split_k_ctas_per_sm", &DeviceProfile::split_k_ctas_per_sm, 1, 32},
    {"mma_warps_m", &DeviceProfile::mma_warps_m, 0, 16},
    {"mma_split_k", &DeviceProfile::mma_split_k, 0, 16},
    {"attention_split_pages", &DeviceProfile::attention_split_pages, 0, 1 << 20},
    {kAttentionCluster, &DeviceProfile::attention_cluster, 0, 8},
};
struct Switch {
  std::string_view name;
  bool DeviceProfile::*value;
};
constexpr std::string_view kDependentLaunch = "dependent_launch";
constexpr Switch kSwitches[] = {
    {kDependentLaunch, &DeviceProfile::dependent_launch},
    {"graphs", &DeviceProfile::graphs},
    {"fp8_fast_sums", &DeviceProfile::fp8_fast_sums},
    {"stream_k_split_always", &DeviceProfile::stream_k_split_always},
};

std::string threshold_names() {
  std::string names;
  for (const Threshold& threshold : kThresholds) names += fmt::format("{}, ", threshold.name);
  for (const Switch& either : kSwitches)
    names += fmt::format("{}{}", either.name, &either == std::end(kSwitches) - 1 ? "" : ", ");
  return names;
}

int attribute(cudaDeviceAttr attr, int device) {
  int value = 0;
  SPATE_CUDA(cudaDeviceGetAttribute(&value, attr, device), "asking device {} for attribute {}", device,
             static_cast<int>(attr));
  return value;
}

// Whether code for `architecture` ("90a-real", "80", "86-virtual") runs on a device of this capability: machine code
// on the same major version from its minor one up, "a" code on exactly its own, PTX on everything later.
bool runs_on(std::string_view architecture, int capability) {
  int number = 0;
  const char* end = architecture.data() + architecture.size();
  const auto [rest, error] = std::from_chars(architecture.data(), end, number);
  if (error != std::errc()) return true;  // "native", "all": whoever built it knew
  const std::string_view suffix(rest, static_cast<size_t>(end - rest));
  if (suffix.starts_with('a')) return capability == number;
  if (suffix != "-real" && capability >= number) return true;
  return suffix != "-virtual" && capability / 10 == number / 10 && capability >= number;
}

bool built_for(int capability) {
  std::string_view left = SPATE_CUDA_ARCHITECTURES;
  for (;;) {
    const size_t end = left.find(',');
    if (runs_on(left.substr(0, end), capability)) return true;
    if (end == std::string_view::npos) return false;
    left.remove_prefix(end + 1);
  }
}

std::string why_none(cudaError_t code) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "this machine has no NVIDIA driver";
  return code == cudaSuccess ? "the driver sees none" : cudaGetErrorString(code);
}

// Whether the code that runs on a device of this capability has been compiled with what came with capability `wanted`.
bool built_with(int wanted, int capability) {
  if (capability < wanted) return false;
  std::string_view left = SPATE_CUDA_ARCHITECTURES;
  for (;;) {
    const size_t end = left.find(',');
    const std::string_view architecture = left.substr(0, end);
    int number = wanted;  // of "native" and the like
    std::from_chars(architecture.data(), architecture.data() + architecture.size(), number);
    if (number >= wanted && runs_on(architecture, capability)) return true;
    if (end == std::string_view::npos) return false;
    left.remove_prefix(end + 1);
  }
}

// Dependent launches (older code would not wait) and bulk copies.
bool built_for_capability_9(int capability) {
  return built_with(90, capability);
}

// Whether the device has wgmma and this build code with it: that of compute capability 9.0a, which nothing else runs.
bool has_wgmma(int capability) {
  return capability == 90 && std::string_view(SPATE_CUDA_ARCHITECTURES).find("90a") != std::string_view::npos;
}

DeviceProfile read_properties(int device) {
  cudaDeviceProp properties{};
  SPATE_CUDA(cudaGetDeviceProperties(&properties, device), "reading the properties of device {}", device);
  DeviceProfile profile;
  profile.device = device;
  profile.name = properties.name;
  profile.capability = 10 * properties.major + properties.minor;
  profile.n_sms = properties.multiProcessorCount;
  profile.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  profile.l2_bytes = properties.l2CacheSize;
  profile.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  profile.dependent_launch = built_for_capability_9(profile.capability);
  profile.has_clusters = built_for_capability_9(profile.capability);
  if (profile.has_clusters) {
    profile.stream_tokens = 8;
    profile.stream_int8_tokens = 1;
    profile.stream_decoded_tokens = 8;
    profile.stream_k_split = 2;
  }
  if (has_wgmma(profile.capability)) {
    profile.wide_min_tokens = 9;
    profile.gemm_min_tokens = 768;
  }
  return profile;
}

}  // namespace

Result<void> DeviceProfile::tune(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  const std::string_view key = assignment.substr(0, equals);
  const std::string_view text = equals == std::string_view::npos ? std::string_view() : assignment.substr(equals + 1);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = !text.empty() && error == std::errc() && end == text.data() + text.size();
  const auto refuse = [&](int min, int max) {
    return Error::usage(fmt::format("--tune {}: '{}' is not a whole number from {} to {}", key, text, min, max));
  };
  for (const Switch& either : kSwitches) {
    if (either.name != key) continue;
    if (!is_number || value < 0 || value > 1) return refuse(0, 1);
    if (key == kDependentLaunch && value == 1 && !built_for_capability_9(capability))
      return Error::usage(fmt::format(
          "--tune {}: {} has no such launches, or this build no code for them; they came with capability 9.0",
          assignment, name));
    this->*either.value = value == 1;
    return {};
  }
  for (const Threshold& threshold : kThresholds) {
    if (threshold.name != key) continue;
    if (!is_number || value < threshold.min || value > threshold.max) return refuse(threshold.min, threshold.max);
    if ((key == kStreamTokens || key == kStreamInt8Tokens || key == kStreamKSplit || key == kAttentionCluster) &&
        value > 0 && !built_for_capability_9(capability))
      return Error::usage(
          fmt::format("--tune {}: {} has no bulk copies, or this build no code for them; they came with "
                      "capability 9.0",
                      assignment, name));
    if (key == kAttentionCluster && (value & (value - 1)) != 0)
      return Error::usage(fmt::format("--tune {}: clusters have 1, 2, 4 or 8 CTAs (0: planned)", assignment));
    if (key == kStreamKSplit && value % 2 != 0)
      return Error::usage(fmt::format("--tune {}: 2 or 4 CTAs can share K (0: none)", assignment));
    if (key == kWideMinTokens && value > 0 && !has_wgmma(capability))
      return Error::usage(fmt::format(
          "--tune {}: {} has no wgmma, or this build no code for it; it is of capability 9.0 alone", assignment, name));
    this->*threshold.value = value;
    return {};
  }
  return Error::usage(fmt::format("--tune {}: there is no such threshold; there are {}", key, threshold_names()));
}

Result<void> DeviceProfile::set_prefill_precision(std::string_view precision) {
  if (precision != "f16" && precision != "fp8")
    return Error::usage(fmt::format("'{}' is no precision of prefill; there are f16 and fp8", precision));
  prefill_fp8 = precision == "fp8";
  if (prefill_fp8 && !built_with(89, capability))
    return Error::usage(
        fmt::format("{} cannot multiply in FP8, or this build has no code for it; that came with capability 8.9: leave "
                    "--prefill-precision out",
                    name));
  if (prefill_fp8) gemm_min_tokens = std::min(gemm_min_tokens, kFp8MinTokens);
  return {};
}

Result<DeviceProfile> probe_device(int device) {
  int n_devices = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&n_devices); code != cudaSuccess || n_devices == 0) {
    cudaGetLastError();  // it would be reported again by the next check
    return Error::unsupported(fmt::format("no CUDA device can be used: {}", why_none(code)));
  }
  if (device < 0 || device >= n_devices)
    return Error::unsupported(
        fmt::format("there is no CUDA device {}; there are {}, numbered from 0", device, n_devices));
  try {
    DeviceProfile profile = read_properties(device);
    if (!built_for(profile.capability))
      return Error::unsupported(
          fmt::format("{} has compute capability {}.{}; this build has code for {} only: build with "
                      "-DCMAKE_CUDA_ARCHITECTURES={}",
                      profile.name, profile.capability / 10, profile.capability % 10, SPATE_CUDA_ARCHITECTURES,
                      profile.capability));
    return profile;
  } catch (const CudaError& error) {
    return Error::backend(error.what());
  }
}

}  // namespace spate::cuda
