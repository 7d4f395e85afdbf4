// What Linux's control groups leave to this process. A container that may use two of a machine's 64 processors and a
// tenth of its memory still sees all of both; whoever takes what it sees is throttled, or killed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace spate {

struct CgroupLimits {
  std::optional<double> cpus;            // processor time a time, 1.5: one and a half processors; none: no limit
  std::optional<uint64_t> memory_bytes;  // none: no limit
};

// The least of the limits of this process's group and of those around it, of both versions of control groups (Linux's
// admin-guide/cgroup-v2.rst, cgroup-v1/). root: what stands before /proc and /sys, for tests.
CgroupLimits cgroup_limits(const std::string& root = {});

// The memory that this process can have: the machine's, or what its control group leaves.
uint64_t usable_memory_bytes();

}  // namespace spate
