// Memory as kernels address it: global allocations between pages that must not be touched, and the windows of shared
// memory of the cluster's CTAs.
#include <cstring>
#include <map>
#include <sys/mman.h>

#include "machine.h"

namespace emu {
namespace {

constexpr size_t kPageBytes = 4096, kAllocationAlignment = 256;
constexpr uint32_t kRankShift = 24, kOffsetMask = (1u << kRankShift) - 1;

struct Allocation {
  size_t n_bytes;
  char* mapping;
  size_t mapped_bytes;
};

std::map<const char*, Allocation>& allocations() {
  static std::map<const char*, Allocation> all;
  return all;
}

size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

char* allocate(size_t n_bytes) {
  // Its end, but for the alignment that cudaMalloc gives, is the end of a page.
  const size_t rounded = round_up(n_bytes, kAllocationAlignment), pages = round_up(rounded, kPageBytes);
  const size_t mapped = pages + 2 * kPageBytes;
  void* const m = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) return nullptr;
  char* const mapping = static_cast<char*>(m);
  if (mprotect(mapping + kPageBytes, pages, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, mapped);
    return nullptr;
  }
  std::memset(mapping + kPageBytes, kPoison, pages);
  char* const data = mapping + kPageBytes + pages - rounded;
  allocations()[data] = {n_bytes, mapping, mapped};
  return data;
}

bool release(void* data) {
  const auto at = allocations().find(static_cast<char*>(data));
  if (at == allocations().end()) return false;
  munmap(at->second.mapping, at->second.mapped_bytes);
  allocations().erase(at);
  return true;
}

void check_global(const void* at, size_t n_bytes, const char* what) {
  const char* const first = static_cast<const char*>(at);
  const auto next = allocations().upper_bound(first);
  if (next == allocations().begin()) die("%s of %zu bytes outside of every allocation", what, n_bytes);
  const auto& [data, a] = *std::prev(next);
  if (first + n_bytes > data + a.n_bytes)
    die("%s of %zu bytes at byte %td of an allocation of %zu", what, n_bytes, first - data, a.n_bytes);
}

bool near_allocation(const void* at, long& byte, size_t& n_bytes) {
  const char* const address = static_cast<const char*>(at);
  for (const auto& [data, a] : allocations()) {
    if (address < a.mapping || address >= a.mapping + a.mapped_bytes) continue;
    byte = address - data;
    n_bytes = a.n_bytes;
    return true;
  }
  return false;
}

// --- shared memory

void* shared_dynamic() {
  return machine.here->window + kDynamicAt;
}

size_t take_static(size_t n_bytes, size_t alignment) {
  const size_t at = round_up(machine.static_bytes, alignment);
  machine.static_bytes = at + n_bytes;
  if (kStaticAt + machine.static_bytes > kWindowBytes) die("too many static shared variables");
  // A variable in a function comes to be in the midst of a kernel.
  for (int c = 0; machine.here != nullptr && c < machine.n_ctas; ++c)
    std::memset(machine.ctas[c].window + kStaticAt + at, kPoison, n_bytes);
  return at;
}

void* static_at(size_t offset) {
  return machine.here->window + kStaticAt + offset;
}

uint32_t address_of(const void* pointer) {
  const auto offset = static_cast<const char*>(pointer) - machine.here->window;
  if (offset < 0 || offset >= static_cast<long>(kWindowBytes)) die("a pointer that is not to the CTA's shared memory");
  return static_cast<uint32_t>(offset);
}

void* pointer_of(uint32_t address, size_t n_bytes, size_t alignment) {
  const size_t offset = address & kOffsetMask, rank = address >> kRankShift;
  if (rank > static_cast<size_t>(machine.n_ctas)) die("shared memory of CTA %zu of %d", rank - 1, machine.n_ctas);
  Cta& cta = rank == 0 ? *machine.here : machine.ctas[rank - 1];
  if (rank != 0 && cta.n_live == 0) die("shared memory of CTA %zu of the cluster, which has ended", rank - 1);
  const bool in_dynamic = offset >= kDynamicAt && offset + n_bytes <= kDynamicAt + machine.dynamic_bytes;
  const bool in_static = offset >= kStaticAt && offset + n_bytes <= kStaticAt + machine.static_bytes;
  if (!in_dynamic && !in_static)
    die("%zu bytes at byte %td of %zu of dynamic shared memory", n_bytes,
        static_cast<ptrdiff_t>(offset) - static_cast<ptrdiff_t>(kDynamicAt), machine.dynamic_bytes);
  if (offset % alignment != 0) die("shared address %zu is no multiple of %zu", offset, alignment);
  return cta.window + offset;
}

int rank_of(uint32_t address) {
  const uint32_t rank = address >> kRankShift;
  return rank == 0 ? static_cast<int>(machine.here - machine.ctas) : static_cast<int>(rank) - 1;
}

uint32_t mapa(uint32_t address, uint32_t rank) {
  if (address >> kRankShift != 0) die("mapa of an address that is one of the cluster's already");
  if (rank >= static_cast<uint32_t>(machine.n_ctas)) die("mapa: CTA %u of %d", rank, machine.n_ctas);
  return address | (rank + 1) << kRankShift;
}

}  // namespace emu
