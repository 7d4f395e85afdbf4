// How many thread block clusters a device runs at once. A cluster's CTAs are on SMs of one GPC, and GPCs differ in how
// many SMs they have: clusters leave some of them idle.
#pragma once

namespace spate::cuda {

inline constexpr int kMaxCluster = 8;  // CTAs; what every device with clusters can do

struct ClusterRoom {
  // [n], of n CTAs that fill an SM each; 0: such clusters cannot be launched. [1] is the number of SMs.
  int clusters[kMaxCluster + 1] = {};
};

// Of the current device, with shared_bytes of shared memory to a CTA (more than half of what an SM has); asked once,
// then remembered. Capability 9.0 or later.
const ClusterRoom& cluster_room(int shared_bytes);

}  // namespace spate::cuda
