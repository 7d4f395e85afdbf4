// Asynchronous copies: cp.async, bulk copies of bytes and of tensors' boxes, and words for other CTAs. Each takes
// effect at a moment drawn by chance between its issue and the wait that must see it; until then its destination is
// poison.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "machine.h"
#include "tensor_map.h"

namespace emu {
namespace {

constexpr size_t kSector = 16;          // bytes: of cp.async, and what bulk copies are multiples of
constexpr unsigned kAtOnceOf16 = 4;     // of 16 bulk copies, take effect before the next instruction
constexpr unsigned kEachRoundOf16 = 4;  // and in each round of the scheduler
constexpr unsigned kAsyncAtOnceOf16 = 6;

struct BulkCopy {
  Cta* cta;
  char* to;
  size_t n_bytes;
  void* barrier;
  const char* from = nullptr;      // of bytes
  const TensorMap* map = nullptr;  // of a box
  uint32_t to_address = 0;
  int column = 0, row = 0;
  float word = 0;  // where there is neither
};
std::vector<BulkCopy> under_way;

bool aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % kSector == 0;
}

// Elements outside of the tensor are zeros.
void copy_elem(const TensorMap& m, int64_t row, int64_t column, char* to) {
  const bool inside =
      column >= 0 && row >= 0 && column < static_cast<int64_t>(m.n_cols) && row < static_cast<int64_t>(m.n_rows);
  if (inside) {
    std::memcpy(to, m.data + row * static_cast<int64_t>(m.row_bytes) + column * m.elem_bytes, m.elem_bytes);
  } else {
    std::memset(to, 0, m.elem_bytes);
  }
}

void copy_box(const BulkCopy& c) {
  const TensorMap& m = *c.map;
  const uint32_t row_bytes = m.box_cols * m.elem_bytes;
  for (uint32_t r = 0; r < m.box_rows; ++r) {
    for (uint32_t at = 0; at < row_bytes; at += m.elem_bytes) {
      const uint32_t linear = c.to_address + r * row_bytes + at;
      const uint32_t to = m.swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? swizzled_128(linear) : linear;
      copy_elem(m, int64_t{c.row} + r, int64_t{c.column} + at / m.elem_bytes, c.cta->window + to);
    }
  }
}

void carry_out(const BulkCopy& c) {
  if (c.map != nullptr) {
    copy_box(c);
  } else {
    std::memcpy(c.to, c.from != nullptr ? c.from : reinterpret_cast<const char*>(&c.word), c.n_bytes);
  }
  ++machine.events;
  barrier_bytes_arrived(c.barrier, c.n_bytes);
}

void start(const BulkCopy& c) {
  std::memset(c.to, kPoison, c.n_bytes);
  ++machine.events;
  if (toss(kAtOnceOf16)) {
    carry_out(c);
  } else {
    under_way.push_back(c);
  }
}

// The map may be a kernel's parameter, gone when the copy is carried out.
const TensorMap* keep(const TensorMap& map) {
  static std::map<std::string, TensorMap> kept;
  return &kept.emplace(std::string(reinterpret_cast<const char*>(&map), sizeof map), map).first->second;
}

void carry_out(const AsyncCopy& c) {
  std::memcpy(c.to, c.from, kSector);
}

}  // namespace

// Bits 4 to 6 of an address, which tell 16 bytes of a row of 128, are added without carry to the row's number in bits 7
// to 9.
uint32_t swizzled_128(uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

// --- bulk copies

void run_some_copies(bool at_least_one) {
  size_t forced = under_way.size();
  if (at_least_one && !under_way.empty()) forced = machine.chance() % under_way.size();
  size_t n_kept = 0;
  for (size_t i = 0; i < under_way.size(); ++i) {
    if (i == forced || toss(kEachRoundOf16)) {
      carry_out(under_way[i]);
    } else {
      under_way[n_kept++] = under_way[i];
    }
  }
  under_way.resize(n_kept);
}

size_t copies_under_way() {
  return under_way.size();
}
void drop_copies() {
  under_way.clear();
}

void bulk_copy(uint32_t to, const void* from, uint32_t n_bytes, uint32_t barrier) {
  if (n_bytes == 0 || n_bytes % kSector != 0 || !aligned(from)) die("a bulk copy of %u bytes from %p", n_bytes, from);
  check_global(from, n_bytes, "a bulk copy");
  start({.cta = machine.here,
         .to = static_cast<char*>(pointer_of(to, n_bytes, kSector)),
         .n_bytes = n_bytes,
         .barrier = pointer_of(barrier, 8, 8),
         .from = static_cast<const char*>(from)});
}

void tensor_copy(uint32_t to, const void* map, int column, int row, uint32_t barrier) {
  const auto& m = *static_cast<const TensorMap*>(map);
  if (m.magic != TensorMap::kMagic) die("a tensor copy by what is no tensor map");
  if (reinterpret_cast<uintptr_t>(map) % alignof(CUtensorMap) != 0) die("a tensor map that is not aligned to 64 bytes");
  const size_t n_bytes = size_t{m.box_cols} * m.box_rows * m.elem_bytes;
  start({.cta = machine.here,
         .to = static_cast<char*>(pointer_of(to, n_bytes, 128)),
         .n_bytes = n_bytes,
         .barrier = pointer_of(barrier, 8, 8),
         .map = keep(m),
         .to_address = to,
         .column = column,
         .row = row});
}

// --- st.async

void store_async(uint32_t to, float value, uint32_t barrier) {
  const int rank = rank_of(to);
  if (rank != rank_of(barrier))
    die("st.async to CTA %d of the cluster counts at a barrier of CTA %d", rank, rank_of(barrier));
  start({.cta = &machine.ctas[rank],
         .to = static_cast<char*>(pointer_of(to, sizeof value, alignof(float))),
         .n_bytes = sizeof value,
         .barrier = pointer_of(barrier, 8, 8),
         .word = value});
}

// --- cp.async

void copy_async_16(uint32_t to, const void* from) {
  if (!aligned(from)) die("cp.async of 16 bytes from %p", from);
  const AsyncCopy c{pointer_of(to, kSector, kSector), from};
  // Read now: a fault is to be told of the instruction that is to blame.
  char bytes[kSector];
  std::memcpy(bytes, from, kSector);
  asm volatile("" : : "r"(bytes) : "memory");
  std::memset(c.to, kPoison, kSector);
  if (toss(kAsyncAtOnceOf16)) {
    carry_out(c);
  } else {
    machine.self->open.push_back(c);
  }
}

void copy_async_commit() {
  machine.self->groups.push_back(std::move(machine.self->open));
  machine.self->open.clear();
}

void copy_async_wait(int n_open) {
  auto& groups = machine.self->groups;
  while (static_cast<int>(groups.size()) > n_open) {
    for (const AsyncCopy& c : groups.front()) carry_out(c);
    groups.erase(groups.begin());
  }
}

}  // namespace emu
