#include <map>
#include <mutex>

#include "backend/cuda/cluster_room.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/launch.h"

namespace spate::cuda {

namespace {

// As the device's runtime counts clusters of a kernel; never launched.
__global__ void whole_sm_kernel() {}

ClusterRoom ask(int shared_bytes) {
  const auto* kernel = reinterpret_cast<const void*>(whole_sm_kernel);
  SPATE_CUDA(allow_shared_bytes(kernel, static_cast<size_t>(shared_bytes)), "asking for {} bytes of shared memory",
             shared_bytes);
  ClusterRoom room;
  for (int n = 1; n <= kMaxCluster; ++n) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {1, 1, static_cast<unsigned>(n)};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(1, 1, static_cast<unsigned>(n));
    config.blockDim = dim3(128);
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.attrs = &attribute;
    config.numAttrs = 1;
    SPATE_CUDA(cudaOccupancyMaxActiveClusters(&room.clusters[n], kernel, &config), "counting clusters of {} CTAs", n);
  }
  return room;
}

}  // namespace

const ClusterRoom& cluster_room(int shared_bytes) {
  static std::mutex mutex;
  static std::map<int, ClusterRoom> rooms;  // by device: it is always asked for the same kind of CTA
  int device = 0;
  SPATE_CUDA(cudaGetDevice(&device), "asking for the current device");
  const std::lock_guard lock(mutex);
  auto at = rooms.find(device);
  if (at == rooms.end()) at = rooms.emplace(device, ask(shared_bytes)).first;
  return at->second;
}

}  // namespace spate::cuda
