// Where threads meet: collective operations of warps, barriers of CTAs and clusters, mbarriers, and words released and
// acquired.
#include "machine.h"

namespace emu {
namespace {

Warp& my_warp() {
  return machine.here->warps[machine.self->thread / kWarpThreads];
}

// What an mbarrier's 8 bytes hold here. A phase ends when neither arrivals nor bytes are missing; bytes are negative
// while a copy is done whose bytes nobody expected yet.
struct Mbarrier {
  uint64_t phase : 1, expected : 20, pending : 20, initialised : 2;
  int64_t bytes : 21;
};
static_assert(sizeof(Mbarrier) == 8);
constexpr uint32_t kMaxBarrierCount = (1u << 20) - 1;  // of arrivals, and of bytes at a time: the manual's

Mbarrier& checked(void* at) {
  auto& b = *static_cast<Mbarrier*>(at);
  if (b.initialised != 1) die("an mbarrier that was not initialised, or was overwritten");  // poison is 3
  return b;
}

Mbarrier& mbarrier_at(uint32_t address) {
  return checked(pointer_of(address, sizeof(Mbarrier), alignof(Mbarrier)));
}

void settle(Mbarrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  b.phase ^= 1;
  b.pending = b.expected;
  ++machine.events;
}

}  // namespace

// --- warps

int lane() {
  return machine.self->thread % kWarpThreads;
}

void collective(uint32_t mask, const char* what, void (*fn)(Lanes, uint32_t), void* mine) {
  if ((mask >> lane() & 1) == 0) die("lane %d calls %s of lanes %08x", lane(), what, mask);
  ++machine.n_collectives;
  Collective* c = nullptr;
  for (Collective& one : my_warp().collectives)
    if (one.arrived != 0 && one.mask == mask) c = &one;
  if (c == nullptr) {
    for (Collective& one : my_warp().collectives)
      if (one.arrived == 0) c = &one;
    if (c == nullptr) die("too many collective operations of a warp at once");
    c->mask = mask;
    c->fn = fn;
    c->what = what;
  }
  if (c->fn != fn) die("lanes %08x of a warp meet in %s and in %s", mask, c->what, what);
  c->lanes[lane()] = mine;
  c->arrived |= 1u << lane();
  if (c->arrived != mask) {
    wait_for_change(c->generation, what);
    return;
  }
  fn(c->lanes, mask);
  c->arrived = 0;
  ++c->generation;
  ++machine.events;
}

uint32_t elect() {
  collective(
      0xffffffff, "elect.sync", [](Lanes, uint32_t) {}, nullptr);
  return lane() == machine.elected_lane;
}

void setmaxnreg(int n) {
  if (n % 8 != 0 || n < 24 || n > 256) die("setmaxnreg %d", n);
  collective(
      0xffffffff, "setmaxnreg", [](Lanes, uint32_t) {}, nullptr);
}

// --- CTAs

void settle_named(int id) {
  NamedBarrier& b = machine.here->named[id];
  const int expected = b.expected == 0 ? machine.here->n_live : b.expected;
  if (b.arrived == 0 || b.arrived < expected) return;
  if (b.arrived > expected) die("%d threads at barrier %d, which is for %d", b.arrived, id, expected);
  b.arrived = 0;
  ++b.generation;
  ++machine.events;
}

void bar_sync(int id, int n_threads) {
  if (n_threads % kWarpThreads != 0) die("barrier %d for %d threads, no whole warps", id, n_threads);
  NamedBarrier& b = machine.here->named[id];
  if (b.arrived == 0) b.expected = n_threads;
  if (b.expected != n_threads) die("barrier %d is for %d threads and for %d", id, b.expected, n_threads);
  ++b.arrived;
  const uint64_t before = b.generation;
  settle_named(id);
  if (b.generation == before) wait_for_change(b.generation, id == 0 ? "__syncthreads" : "bar.sync");
}

// --- mbarriers

void mbarrier_init(uint32_t barrier, uint32_t n_arrivals) {
  if (n_arrivals == 0 || n_arrivals > kMaxBarrierCount) die("an mbarrier of %u arrivals", n_arrivals);
  Mbarrier b{};
  b.initialised = 1;
  b.expected = b.pending = n_arrivals & kMaxBarrierCount;
  *static_cast<Mbarrier*>(pointer_of(barrier, sizeof b, alignof(Mbarrier))) = b;
}

void mbarrier_arrive(uint32_t barrier) {
  Mbarrier& b = mbarrier_at(barrier);
  if (b.pending == 0) die("more arrivals at an mbarrier than it has in a phase");
  --b.pending;
  settle(b);
}

void mbarrier_expect(uint32_t barrier, uint32_t n_bytes) {
  if (n_bytes > kMaxBarrierCount) die("%u bytes expected at an mbarrier", n_bytes);
  mbarrier_at(barrier).bytes += n_bytes;
  mbarrier_arrive(barrier);
}

void barrier_bytes_arrived(void* barrier, size_t n_bytes) {
  Mbarrier& b = checked(barrier);
  b.bytes -= static_cast<int64_t>(n_bytes);
  settle(b);
}

bool phase_ended(const void* barrier, uint64_t parity) {
  return checked(const_cast<void*>(barrier)).phase != parity;
}

void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  if (parity > 1) die("an mbarrier's parity %u", parity);
  const Mbarrier& b = mbarrier_at(barrier);
  if (b.phase != parity) return;
  machine.self->barrier = &b;
  machine.self->value = parity;
  wait_as(Wait::kBarrier, "mbarrier.try_wait");
}

// --- words

void store_release(uint32_t address, uint32_t value) {
  ++machine.events;
  store(address, value);
}

uint32_t load_acquire(uint32_t address) {
  // Loops over it must not keep the others from going on.
  wait_as(Wait::kSpin, "ld.acquire");
  return load<uint32_t>(address);
}

// --- clusters and grids

uint32_t cluster_ctarank() {
  return static_cast<uint32_t>(machine.here - machine.ctas);
}

void settle_cluster() {
  if (machine.cluster_arrived == 0 || machine.cluster_arrived < machine.cluster_live) return;
  machine.cluster_arrived = 0;
  ++machine.cluster_phase;
  ++machine.events;
}

void cluster_arrive() {
  Fiber& self = *machine.self;
  if (self.cluster_arrived) die("barrier.cluster.arrive twice without a wait");
  self.cluster_arrived = true;
  self.cluster_phase = machine.cluster_phase;
  ++machine.cluster_arrived;
  settle_cluster();
}

void cluster_wait() {
  Fiber& self = *machine.self;
  if (!self.cluster_arrived) die("barrier.cluster.wait without an arrival");
  self.cluster_arrived = false;
  if (self.cluster_phase == machine.cluster_phase) wait_for_change(machine.cluster_phase, "barrier.cluster.wait");
}

void leave_barriers() {
  // A thread that ended counts as arrived wherever all are waited for: barriers count those that live.
  if (machine.self->cluster_arrived && machine.self->cluster_phase == machine.cluster_phase) --machine.cluster_arrived;
  settle_cluster();
  if (machine.here->named[0].expected == 0) settle_named(0);
}

void griddepcontrol_wait() {
  machine.here->waited_for_predecessor = true;
}
void griddepcontrol_launch() {}

}  // namespace emu
