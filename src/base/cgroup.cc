#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string_view>
#include <unistd.h>

namespace spate {

namespace {

// The file's first line; empty where there is none.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The number at the start of a text; nothing for "max", and for -1, which also mean that there is no limit.
std::optional<uint64_t> leading_number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

std::optional<double> cpus_of(std::optional<uint64_t> quota_us, std::optional<uint64_t> period_us) {
  if (!quota_us || !period_us || *period_us == 0) return std::nullopt;
  return static_cast<double>(*quota_us) / static_cast<double>(*period_us);
}

template <typename T>
void lower(std::optional<T>& limit, const std::optional<T>& other) {
  if (other && (!limit || *other < *limit)) limit = other;
}

// Version 2: "QUOTA PERIOD" in cpu.max.
CgroupLimits limits_of_v2(const std::string& folder) {
  const std::string cpu = first_line(folder + "/cpu.max");
  const size_t space = std::min(cpu.find(' '), cpu.size());
  return {.cpus = cpus_of(leading_number(cpu),
                          leading_number(std::string_view(cpu).substr(std::min(space + 1, cpu.size())))),
          .memory_bytes = leading_number(first_line(folder + "/memory.max"))};
}

CgroupLimits limits_of_v1(const std::string& folder) {
  return {.cpus = cpus_of(leading_number(first_line(folder + "/cpu.cfs_quota_us")),
                          leading_number(first_line(folder + "/cpu.cfs_period_us"))),
          .memory_bytes = leading_number(first_line(folder + "/memory.limit_in_bytes"))};
}

}  // namespace

CgroupLimits cgroup_limits(const std::string& root) {
  CgroupLimits limits;
  std::ifstream groups(root + "/proc/self/cgroup");
  // "4:memory:/a/b" is version 1, "0::/a/b" version 2.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string mount = root + "/sys/fs/cgroup" + (controllers.empty() ? "" : "/" + controllers);
    // In a container, what is mounted may be the group itself, under a path that it does not know: so each folder on
    // the way up counts that is there.
    for (std::string group = line.substr(second + 1);; group.resize(group.rfind('/'))) {
      const CgroupLimits found = controllers.empty() ? limits_of_v2(mount + group) : limits_of_v1(mount + group);
      lower(limits.cpus, found.cpus);
      lower(limits.memory_bytes, found.memory_bytes);
      if (group.empty() || group.front() != '/') break;
    }
  }
  return limits;
}

uint64_t usable_memory_bytes() {
  const auto machine = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(machine, cgroup_limits().memory_bytes.value_or(machine));
}

}  // namespace spate
