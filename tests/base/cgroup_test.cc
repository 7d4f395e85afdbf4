#include "base/cgroup.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

#include "support/test_data.h"

namespace spate {
namespace {

// A machine of files.
class Machine {
 public:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path whole = folder_.path("root") + path;
    std::filesystem::create_directories(whole.parent_path());
    std::ofstream(whole) << text << "\n";
  }
  CgroupLimits limits() const { return cgroup_limits(folder_.path("root")); }

 private:
  testing::TemporaryFolder folder_;
};

TEST(Cgroup, NothingThere_IsNoLimit) {
  Machine machine;
  EXPECT_FALSE(machine.limits().cpus);
  EXPECT_FALSE(machine.limits().memory_bytes);
  machine.write("/proc/self/cgroup", "0::/");
  machine.write("/sys/fs/cgroup/cpu.max", "max 100000");
  machine.write("/sys/fs/cgroup/memory.max", "max");
  EXPECT_FALSE(machine.limits().cpus);
  EXPECT_FALSE(machine.limits().memory_bytes);
}

TEST(Cgroup, Version2_TheLeastOnTheWayUpCounts) {
  Machine machine;
  machine.write("/proc/self/cgroup", "0::/pod/box");
  machine.write("/sys/fs/cgroup/pod/box/cpu.max", "400000 100000");
  machine.write("/sys/fs/cgroup/pod/box/memory.max", "8589934592");
  machine.write("/sys/fs/cgroup/pod/cpu.max", "150000 100000");
  machine.write("/sys/fs/cgroup/pod/memory.max", "max");
  EXPECT_EQ(machine.limits().cpus, 1.5);
  EXPECT_EQ(machine.limits().memory_bytes, 8589934592u);
}

TEST(Cgroup, ContainerThatSeesItsGroupAsTheRoot_HasItsLimits) {
  Machine machine;
  machine.write("/proc/self/cgroup", "0::/docker/0123456789ab");
  machine.write("/sys/fs/cgroup/cpu.max", "200000 100000");
  machine.write("/sys/fs/cgroup/memory.max", "4294967296");
  EXPECT_EQ(machine.limits().cpus, 2);
  EXPECT_EQ(machine.limits().memory_bytes, 4294967296u);
}

TEST(Cgroup, Version1_HasAFolderAController) {
  Machine machine;
  machine.write("/proc/self/cgroup", "9:name=systemd:/a\n4:memory:/a\n2:cpu,cpuacct:/a/b\n0::/");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "50000");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  machine.write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824");
  EXPECT_EQ(machine.limits().cpus, 0.5);
  EXPECT_EQ(machine.limits().memory_bytes, 1073741824u);
}

TEST(Cgroup, FilesThatMakeNoSense_AreNoLimit) {
  Machine machine;
  machine.write("/proc/self/cgroup", "nonsense\n0::\n:\n0::relative/path");
  machine.write("/sys/fs/cgroup/cpu.max", "100000");
  machine.write("/sys/fs/cgroup/memory.max", "lots");
  EXPECT_FALSE(machine.limits().cpus);
  EXPECT_FALSE(machine.limits().memory_bytes);
}

TEST(UsableMemory, IsSomeAndNoMoreThanTheMachineHas) {
  EXPECT_GT(usable_memory_bytes(), uint64_t{1} << 20);
  std::ifstream info("/proc/meminfo");
  std::string name;
  uint64_t total_kib = 0;
  info >> name >> total_kib;
  ASSERT_EQ(name, "MemTotal:");
  EXPECT_LE(usable_memory_bytes(), total_kib << 10);
}

}  // namespace
}  // namespace spate
