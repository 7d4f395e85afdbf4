// Fibers, the order in which they go on, and grids: cluster after cluster, in an order drawn anew for each.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#include "machine.h"
#include "runtime.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Goes on with the stack `to`, where this function was called from (or a fiber begins), and leaves where to come back
// to in *from: the registers that a call preserves are on the stack.
extern "C" void emu_switch(void** from, void* to);
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch, .-emu_switch
)");

namespace emu {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr uint64_t kStackCanary = 0x5afe57ac5afe57ac;
constexpr int kSavedRegisters = 6;
constexpr char kSharedCanary = '\xa5';

void* scheduler_stack;
void (*body)(void*);
void* body_context;

char* map_memory(size_t n_bytes) {
  void* const m = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) die("no memory for %zu bytes of stack or shared memory", n_bytes);
  return static_cast<char*>(m);
}

// --- fibers

void yield() {
  emu_switch(&machine.self->stack_pointer, scheduler_stack);
}

[[noreturn]] void fiber_main() {
  body(body_context);
  machine.self->ended = true;
  ++machine.events;
  --machine.here->n_live;
  --machine.cluster_live;
  leave_barriers();
  yield();
  std::abort();  // nobody resumes what ended
}

void begin_fiber(Fiber& f, int thread) {
  char* const stack = f.stack != nullptr ? f.stack : map_memory(kStackBytes);
  f = Fiber{};
  f.stack = stack;
  f.thread = thread;
  std::memcpy(stack, &kStackCanary, sizeof kStackCanary);
  // As emu_switch() leaves a stack: registers, where to return to, and a slot that keeps the ABI's alignment.
  void** sp = reinterpret_cast<void**>(stack + kStackBytes);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(fiber_main);
  for (int i = 0; i < kSavedRegisters; ++i) *--sp = nullptr;
  f.stack_pointer = sp;
}

bool ready(const Fiber& f) {
  switch (f.wait) {
    case Wait::kNothing:
      return true;
    case Wait::kChange:
      return *f.count != f.value;
    case Wait::kReach:
      return *f.count >= f.value;
    case Wait::kBarrier:
      return phase_ended(f.barrier, f.value);
    case Wait::kSpin:
      return !f.spun;
  }
  return false;
}

void resume(Cta& cta, Fiber& f) {
  // To look at a word once more is no progress.
  if (f.wait != Wait::kSpin) ++machine.events;
  f.spun = f.wait == Wait::kSpin;
  f.wait = Wait::kNothing;
  f.what = "running";
  machine.here = &cta;
  machine.self = &f;
  const auto t = static_cast<unsigned>(f.thread);
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
  blockIdx = cta.index;
  ++machine.n_switches;
  emu_switch(&scheduler_stack, f.stack_pointer);
}

// --- CTAs

void begin_cta(Cta& cta, uint3 index) {
  if (cta.window == nullptr) cta.window = map_memory(kWindowBytes);
  std::memset(cta.window + kDynamicAt, kPoison, machine.dynamic_bytes);
  std::memset(cta.window + kDynamicAt + machine.dynamic_bytes, kSharedCanary, kCanaryBytes);
  std::memset(cta.window + kStaticAt, kPoison, machine.static_bytes);
  cta.index = index;
  cta.n_live = machine.n_threads;
  cta.waited_for_predecessor = false;
  for (Warp& w : cta.warps) {
    w.products.clear();
    w.issued.clear();
    w.n_issued = w.n_done = w.group = 0;
    for (Collective& c : w.collectives) c.mask = c.arrived = 0;
  }
  for (NamedBarrier& b : cta.named) b = {};
  cta.fibers.resize(std::max(cta.fibers.size(), static_cast<size_t>(machine.n_threads)));
  for (int i = 0; i < machine.n_threads; ++i) begin_fiber(cta.fibers[static_cast<size_t>(i)], i);
}

void check_ended_warp(const Cta& cta, int w) {
  if (!cta.warps[w].products.empty()) complain("warp %d ended with products of wgmma under way", w);
  const int first = w - w % kWarpgroupWarps;
  if (cta.warps[w].n_issued != cta.warps[first].n_issued)
    complain("warps %d and %d of a warpgroup have started %zu and %zu products", first, w,
             size_t{cta.warps[first].n_issued}, size_t{cta.warps[w].n_issued});
}

void check_ended_cta(Cta& cta, bool dependent) {
  machine.here = &cta;
  for (int i = 0; i < machine.n_threads; ++i) {
    machine.self = &cta.fibers[static_cast<size_t>(i)];
    if (std::memcmp(machine.self->stack, &kStackCanary, sizeof kStackCanary) != 0)
      die("a thread needs more than %zu bytes of stack", kStackBytes);
  }
  for (size_t i = 0; i < kCanaryBytes; ++i)
    if (cta.window[kDynamicAt + machine.dynamic_bytes + i] != kSharedCanary)
      die("byte %zu behind the CTA's %zu of dynamic shared memory was written", i, machine.dynamic_bytes);
  for (int w = 0; w < machine.n_warps; ++w) check_ended_warp(cta, w);
  for (int id = 0; id < kNamedBarriers; ++id)
    if (cta.named[id].arrived != 0)
      complain("%d threads had arrived at barrier %d of a CTA that ended", cta.named[id].arrived, id);
  if (dependent && !cta.waited_for_predecessor)
    complain("a CTA of a dependent kernel never waited for its predecessor");
}

// --- clusters

// Lanes go on in turn, from a lane drawn anew: in most calls for a few rounds, so that warps drift apart by little or
// by much; in the others for as long as any can.
void run_warp(Cta& cta, int w) {
  const auto bits = static_cast<uint32_t>(machine.chance());
  const uint32_t first = bits % kWarpThreads;
  int n_rounds = (bits >> 5 & 7) != 0 ? 1 << (bits >> 8 & 7) : 1000000;
  for (bool any = true; any && n_rounds > 0; --n_rounds) {
    any = false;
    for (uint32_t i = 0; i < kWarpThreads; ++i) {
      Fiber& f = cta.fibers[static_cast<size_t>(w * kWarpThreads) + (first + i) % kWarpThreads];
      machine.here = &cta;
      machine.self = &f;
      if (f.ended || !ready(f)) continue;
      resume(cta, f);
      any = true;
    }
  }
}

void run_cluster() {
  constexpr int kIdleRounds = 3;  // copies may still be under way in the first
  std::vector<int> order(static_cast<size_t>(machine.n_ctas * machine.n_warps));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  for (int n_idle = 0; machine.cluster_live > 0;) {
    const uint64_t before = machine.events;
    std::shuffle(order.begin(), order.end(), machine.chance);
    for (const int i : order) {
      Cta& cta = machine.ctas[i / machine.n_warps];
      if (cta.n_live > 0) run_warp(cta, i % machine.n_warps);
    }
    for (int c = 0; c < machine.n_ctas; ++c)
      for (Fiber& f : machine.ctas[c].fibers) f.spun = false;
    run_some_copies(machine.events == before);
    n_idle = machine.events == before ? n_idle + 1 : 0;
    if (n_idle > kIdleRounds) die_of_deadlock();
  }
  if (copies_under_way() != 0) {
    complain("%zu bulk copies were under way when their cluster ended", copies_under_way());
    drop_copies();
  }
}

struct LaunchAttributes {
  dim3 cluster{1, 1, 1};
  bool dependent = false;  // programmatic stream serialisation
};

LaunchAttributes attributes_of(const cudaLaunchConfig_t& config) {
  LaunchAttributes found;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& a = config.attrs[i];
    if (a.id == cudaLaunchAttributeClusterDimension)
      found.cluster = dim3(a.val.clusterDim.x, a.val.clusterDim.y, a.val.clusterDim.z);
    if (a.id == cudaLaunchAttributeProgrammaticStreamSerialization)
      found.dependent = a.val.programmaticStreamSerializationAllowed != 0;
  }
  return found;
}

bool allowed(const cudaLaunchConfig_t& config, const void* kernel, dim3 cluster) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const size_t n_threads = size_t{b.x} * b.y * b.z, n_ctas = size_t{cluster.x} * cluster.y * cluster.z;
  const bool good = n_threads > 0 && n_threads <= kMaxThreads && n_threads % kWarpThreads == 0 && g.x > 0 && g.y > 0 &&
                    g.z > 0 && g.y <= 65535 && g.z <= 65535 && n_ctas > 0 && n_ctas <= kMaxClusterCtas &&
                    g.x % cluster.x == 0 && g.y % cluster.y == 0 && g.z % cluster.z == 0 &&
                    config.dynamicSmemBytes <= dynamic_limit(kernel);
  if (!good)
    std::fprintf(stderr, "emulation: refused %s: grid (%u, %u, %u), %zu threads, clusters of %zu, %zu bytes of %zu\n",
                 name_of(kernel).c_str(), g.x, g.y, g.z, n_threads, n_ctas, config.dynamicSmemBytes,
                 dynamic_limit(kernel));
  return good;
}

void set_up(const cudaLaunchConfig_t& config, const void* kernel, dim3 cluster) {
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  machine.kernel = kernel;
  machine.n_threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  machine.n_warps = machine.n_threads / kWarpThreads;
  machine.n_ctas = static_cast<int>(cluster.x * cluster.y * cluster.z);
  machine.dynamic_bytes = config.dynamicSmemBytes;
  machine.n_collectives = machine.n_switches = 0;
}

}  // namespace

void wait_as(Wait wait, const char* what) {
  machine.self->wait = wait;
  machine.self->what = what;
  yield();
}

void wait_for_change(const uint64_t& count, const char* what) {
  machine.self->count = &count;
  machine.self->value = count;
  wait_as(Wait::kChange, what);
}

void trap() {
  die("a trap");
}

cudaError_t run_grid(const cudaLaunchConfig_t& config, const void* kernel, void (*kernel_body)(void*), void* context) {
  const auto [cluster, dependent] = attributes_of(config);
  if (!allowed(config, kernel, cluster)) return fail(cudaErrorInvalidValue);
  set_up(config, kernel, cluster);
  body = kernel_body;
  body_context = context;
  std::vector<uint3> firsts;  // CTAs of clusters
  for (unsigned z = 0; z < gridDim.z; z += cluster.z)
    for (unsigned y = 0; y < gridDim.y; y += cluster.y)
      for (unsigned x = 0; x < gridDim.x; x += cluster.x) firsts.push_back({x, y, z});
  std::shuffle(firsts.begin(), firsts.end(), machine.chance);
  for (const uint3& first : firsts) {
    Cta* cta = machine.ctas;
    for (unsigned z = 0; z < cluster.z; ++z)
      for (unsigned y = 0; y < cluster.y; ++y)
        for (unsigned x = 0; x < cluster.x; ++x) begin_cta(*cta++, {first.x + x, first.y + y, first.z + z});
    machine.cluster_live = machine.n_ctas * machine.n_threads;
    machine.cluster_arrived = 0;
    run_cluster();
    for (int c = 0; c < machine.n_ctas; ++c) check_ended_cta(machine.ctas[c], dependent);
  }
  machine.here = nullptr;
  machine.self = nullptr;
  if (options().trace)
    std::fprintf(
        stderr,
        "emulation: %s: grid (%u, %u, %u), %d threads, clusters of %d, %zu bytes: %zu collectives, %zu switches\n",
        name_of(kernel).c_str(), gridDim.x, gridDim.y, gridDim.z, machine.n_threads, machine.n_ctas,
        machine.dynamic_bytes, size_t{machine.n_collectives}, size_t{machine.n_switches});
  return cudaSuccess;
}

}  // namespace emu
