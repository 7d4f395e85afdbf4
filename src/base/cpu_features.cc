#include "base/cpu_features.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sched.h>
#include <set>
#include <string>
#include <utility>

#include "base/cgroup.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace spate {

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

// XCR0: which register states the operating system saves. Intel SDM volume 1, 13.3.
unsigned long long enabled_states() {
  const bool os_xsave = (cpuid(1, 0).ecx >> 27) & 1;
  if (!os_xsave) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

bool detect_avx2() {
  if ((enabled_states() & 0x6) != 0x6) return false;
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
  const bool fma = (one.ecx >> 12) & 1, f16c = (one.ecx >> 29) & 1, avx = (one.ecx >> 28) & 1;
  return fma && f16c && avx && ((seven.ebx >> 5) & 1);
}

bool detect_avx512() {
  if (!detect_avx2() || (enabled_states() & 0xe6) != 0xe6) return false;
  const Registers seven = cpuid(7, 0);
  const bool f = (seven.ebx >> 16) & 1, dq = (seven.ebx >> 17) & 1, bw = (seven.ebx >> 30) & 1,
             vl = (seven.ebx >> 31) & 1;
  const bool vnni = (seven.ecx >> 11) & 1;
  return f && dq && bw && vl && vnni;
}

bool detect_amx() {
  if (!detect_avx512() || (enabled_states() & 0x60000) != 0x60000) return false;
  const Registers seven = cpuid(7, 0);
  const bool vbmi = (seven.ecx >> 1) & 1, avx512_bf16 = (cpuid(7, 1).eax >> 5) & 1;
  const bool tile = (seven.edx >> 24) & 1, int8 = (seven.edx >> 25) & 1, bf16 = (seven.edx >> 22) & 1;
  if (!vbmi || !avx512_bf16 || !tile || !int8 || !bf16) return false;
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

#else

bool detect_avx2() {
  return false;
}
bool detect_avx512() {
  return false;
}
bool detect_amx() {
  return false;
}

#endif

int read_int(const std::string& path) {
  int value = -1;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    if (std::fscanf(file, "%d", &value) != 1) value = -1;
    std::fclose(file);
  }
  return value;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

bool isa_supported(Isa isa) {
  static const bool avx2 = detect_avx2(), avx512 = detect_avx512(), amx = detect_amx();
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAmx:
      return amx;
  }
  return false;
}

Isa best_isa() {
  Isa best = Isa::kPortable;
  for (Isa isa : kAllIsas)
    if (isa_supported(isa)) best = isa;
  return best;
}

Result<Isa> isa_from_name(std::string_view name) {
  if (name.empty()) return best_isa();
  std::string supported;
  for (Isa isa : kAllIsas) {
    if (!isa_supported(isa)) continue;
    if (isa_name(isa) == name) return isa;
    supported += (supported.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  return Error::usage(
      fmt::format("instruction set '{}' is not available on this processor; choose one of: {}", name, supported));
}

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::pair<int, int>> cores;  // (package, core)
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const int core = read_int(topology + "core_id");
    // Without a topology to read, each processor counts as a core of its own.
    cores.emplace(core < 0 ? -1 - cpu : read_int(topology + "physical_package_id"), core);
  }
  const int n_cores = std::max(1, static_cast<int>(cores.size()));
  // Threads beyond the share of time that a control group leaves would spend it waiting for one another.
  const std::optional<double> share = cgroup_limits().cpus;
  return share ? std::clamp(static_cast<int>(std::ceil(*share)), 1, n_cores) : n_cores;
}

}  // namespace spate
