// The machine that kernels run on: its state, and what its files give to one another. Kernels see instructions.h alone.
//
// One cluster of CTAs is on the machine at a time. Every thread of it is a fiber with a stack of its own; one runs
// until it has to wait. There is no concurrency in the process, so the state needs no locks; it is global because a
// kernel's calls carry no argument that could lead to it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "instructions.h"

namespace emu {

inline constexpr int kWarpThreads = 32, kMaxThreads = 1024, kMaxWarps = kMaxThreads / kWarpThreads, kMaxClusterCtas = 8;
inline constexpr int kWarpgroupWarps = 4, kNamedBarriers = 16;
inline constexpr size_t kSharedBytes = 227 << 10;        // that a CTA may ask for (capability 9.0)
inline constexpr size_t kDefaultSharedBytes = 48 << 10;  // without cudaFuncSetAttribute
// A CTA's window of shared memory: the dynamic part, no more aligned than 128 bytes, a canary, the static part.
inline constexpr size_t kDynamicAt = 0x480, kCanaryBytes = 4096, kStaticAt = 0x48000, kWindowBytes = 512 << 10;
inline constexpr char kPoison = '\xff';  // float16 and float32: NaN

// What a fiber waits for.
enum class Wait : uint8_t {
  kNothing,
  kChange,   // *count differs from `value`
  kReach,    // *count is at least `value`
  kBarrier,  // the phase of parity `value` of `barrier` ends
  kSpin,     // the others' next round
};

struct AsyncCopy {  // cp.async of 16 bytes
  void* to;
  const void* from;
};

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // lowest address
  int thread = 0;         // in the CTA
  bool ended = false, spun = false;
  Wait wait = Wait::kNothing;
  const char* what = "";  // the instruction that waits
  const uint64_t* count = nullptr;
  uint64_t value = 0;
  const void* barrier = nullptr;
  bool cluster_arrived = false;
  uint64_t cluster_phase = 0;
  std::vector<AsyncCopy> open;                 // copies of no group yet
  std::vector<std::vector<AsyncCopy>> groups;  // committed, oldest first
};

struct Collective {
  uint32_t mask = 0, arrived = 0;
  void (*fn)(Lanes, uint32_t) = nullptr;
  const char* what = "";
  void* lanes[kWarpThreads];
  uint64_t generation = 0;
};

struct Wgmma {  // a warp's quarter of a product
  float* sums[kWarpThreads];
  uint32_t a[kWarpThreads][4];
  uint64_t b;  // descriptor
  int n_octets;
  bool add;
  uint64_t group;
};

struct Warp {
  Collective collectives[8];
  std::vector<Wgmma> products;  // issued and not carried out
  uint64_t n_issued = 0, n_done = 0, group = 0;
  std::vector<std::pair<uint64_t, uint64_t>> issued;  // of the warpgroup, in its first warp: descriptor and shape
};

struct NamedBarrier {
  int expected = 0, arrived = 0;  // threads; expected 0: all
  uint64_t generation = 0;
};

struct Cta {
  char* window = nullptr;  // of shared memory
  uint3 index{};
  int n_live = 0;
  bool waited_for_predecessor = false;  // griddepcontrol.wait
  std::vector<Fiber> fibers;
  Warp warps[kMaxWarps];
  NamedBarrier named[kNamedBarriers];
};

struct Machine {
  Fiber* self = nullptr;  // that runs
  Cta* here = nullptr;    // its CTA
  Cta ctas[kMaxClusterCtas];
  int n_ctas = 0, n_threads = 0, n_warps = 0;  // in the cluster; of a CTA
  size_t dynamic_bytes = 0, static_bytes = 0;
  int cluster_live = 0, cluster_arrived = 0;  // threads
  uint64_t cluster_phase = 0;
  const void* kernel = nullptr;
  // Whatever may let a waiting fiber go on counts; a round without is a deadlock.
  uint64_t events = 0;
  uint64_t n_collectives = 0, n_switches = 0;  // in the grid
  std::mt19937 chance;
  int elected_lane = 0;  // elect.sync's: the manual promises no more than that it is one
};
extern Machine machine;

// From the environment: see README.md.
struct Options {
  unsigned seed;
  int n_sms;
  bool trace;
};
const Options& options();
bool toss(unsigned of_16);  // true in of_16 of 16 cases

// --- report.cc
[[noreturn]] void die(const char* format, ...) __attribute__((format(printf, 1, 2)));
// For what is wrong and need not show in results: told at once, and the program's exit status is 78.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void die_of_deadlock();
std::string name_of(const void* kernel);

// --- scheduler.cc
void wait_as(Wait wait, const char* what);
void wait_for_change(const uint64_t& count, const char* what);

// --- barriers.cc
bool phase_ended(const void* barrier, uint64_t parity);
void barrier_bytes_arrived(void* barrier, size_t n_bytes);
void settle_cluster();
void settle_named(int id);
void leave_barriers();  // as a thread that ends

// --- copies.cc
// Carries out some of the bulk copies that are under way, by chance.
void run_some_copies(bool at_least_one);
size_t copies_under_way();
void drop_copies();
uint32_t swizzled_128(uint32_t address);

// --- memory.cc
int rank_of(uint32_t address);  // of the CTA whose shared memory is meant
// Global memory.
char* allocate(size_t n_bytes);  // null without room
bool release(void* data);
void check_global(const void* at, size_t n_bytes, const char* what);
// The allocation near an address that may not be touched, for messages: true if there is one.
bool near_allocation(const void* at, long& byte, size_t& n_bytes);

}  // namespace emu
