// Matrix products of tensor cores, by the fragments' layouts of the PTX ISA manual. Sums are float32, in order of k: a
// tensor core's order and rounding within a product are not specified.
//
// Lane l of a warp is in group g = l / 4, at t = l % 4 of it. Accumulators of [16, 8]: rows g and g + 8, columns 2t and
// 2t + 1. Products of wgmma take effect at once or at the wait that must see them, by chance.
#include <cstring>
#include <immintrin.h>
#include <memory>

#include "machine.h"

namespace emu {
namespace {

constexpr uint32_t kAllLanes = 0xffffffff;
constexpr unsigned kAtOnceOf16 = 8;

float half_at(uint32_t word, int i) {
  static const std::unique_ptr<float[]> table = [] {
    auto all = std::make_unique<float[]>(1 << 16);
    for (int bits = 0; bits < 1 << 16; ++bits) all[static_cast<size_t>(bits)] = _cvtsh_ss(static_cast<uint16_t>(bits));
    return all;
  }();
  return table[word >> 16 * i & 0xffff];
}

// a of m16n8k16 and of wgmma's quarters: registers of rows g and g + 8 at columns 2t, and the same 8 columns on.
void put_a(float (&a)[16][16], const uint32_t* registers, int l) {
  const int g = l / 4, t = l % 4;
  for (int r = 0; r < 4; ++r)
    for (int i = 0; i < 2; ++i) a[g + r % 2 * 8][2 * t + r / 2 * 8 + i] = half_at(registers[r], i);
}

template <typename T>
void put_sums(T (&c)[16][8], const T* four, int l) {
  const int g = l / 4, t = l % 4;
  for (int i = 0; i < 4; ++i) c[g + i / 2 * 8][2 * t + i % 2] = four[i];
}

template <typename T>
void get_sums(const T (&c)[16][8], T* four, int l) {
  const int g = l / 4, t = l % 4;
  for (int i = 0; i < 4; ++i) four[i] = c[g + i / 2 * 8][2 * t + i % 2];
}

template <typename T, size_t n_k>
void multiply(T (&c)[16][8], const T (&a)[16][n_k], const T (&b)[n_k][8]) {
  for (size_t r = 0; r < 16; ++r)
    for (size_t k = 0; k < n_k; ++k)
      for (size_t n = 0; n < 8; ++n) c[r][n] += a[r][k] * b[k][n];
}

struct Ldmatrix {
  const char* row;
  uint32_t out[4];
  bool transposed;
};

// Lane 8m + r brings the address of row r of matrix m; lane l gets of each matrix row g's elements 2t and 2t + 1, or,
// transposed, column g's.
void load_matrices(Lanes lanes, uint32_t) {
  for (int l = 0; l < kWarpThreads; ++l) {
    auto& mine = *static_cast<Ldmatrix*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int m = 0; m < 4; ++m) {
      const auto row = [&](int r) { return static_cast<const Ldmatrix*>(lanes[8 * m + r])->row; };
      uint16_t v[2];
      for (int i = 0; i < 2; ++i)
        std::memcpy(&v[i], mine.transposed ? row(2 * t + i) + 2 * g : row(g) + 4 * t + 2 * i, 2);
      mine.out[m] = v[0] | static_cast<uint32_t>(v[1]) << 16;
    }
  }
}

template <typename T>
struct Mma {
  uint32_t a[4], b[2];
  T sums[4];
  bool a_unsigned = false;
};

void multiply_f16(Lanes lanes, uint32_t) {
  float a[16][16], b[16][8], c[16][8];
  for (int l = 0; l < kWarpThreads; ++l) {
    const auto& m = *static_cast<const Mma<float>*>(lanes[l]);
    put_a(a, m.a, l);
    put_sums(c, m.sums, l);
    for (int i = 0; i < 4; ++i) b[2 * (l % 4) + i / 2 * 8 + i % 2][l / 4] = half_at(m.b[i / 2], i % 2);
  }
  multiply(c, a, b);
  for (int l = 0; l < kWarpThreads; ++l) get_sums(c, static_cast<Mma<float>*>(lanes[l])->sums, l);
}

int byte_at(uint32_t word, int i, bool is_unsigned) {
  const auto byte = static_cast<uint8_t>(word >> 8 * i);
  return is_unsigned ? int{byte} : int{static_cast<int8_t>(byte)};
}

// As with float16, but four values a register and 32 columns.
void multiply_s8(Lanes lanes, uint32_t) {
  int a[16][32], b[32][8], c[16][8];
  for (int l = 0; l < kWarpThreads; ++l) {
    const auto& m = *static_cast<const Mma<int>*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r)
      for (int i = 0; i < 4; ++i) a[g + r % 2 * 8][4 * t + r / 2 * 16 + i] = byte_at(m.a[r], i, m.a_unsigned);
    for (int r = 0; r < 2; ++r)
      for (int i = 0; i < 4; ++i) b[4 * t + r * 16 + i][g] = byte_at(m.b[r], i, false);
    put_sums(c, m.sums, l);
  }
  multiply(c, a, b);
  for (int l = 0; l < kWarpThreads; ++l) get_sums(c, static_cast<Mma<int>*>(lanes[l])->sums, l);
}

// --- wgmma

// 16 rows of m64nNk16, those of one warp. B: K-major in rows of 128 bytes, swizzled; descriptor: start and stride
// between octets of rows in units of 16 bytes, bits 62 and 63 the swizzle, bits 49 to 51 where its pattern starts.
void carry_out(const Cta& cta, const Wgmma& p) {
  const uint32_t start = (p.b & 0x3fff) << 4, stride = (p.b >> 32 & 0x3fff) << 4;
  if (p.b >> 62 != 1 || (p.b >> 49 & 7) != 0) die("wgmma by descriptor %016zx, of another swizzle", size_t{p.b});
  float a[16][16];
  for (int l = 0; l < kWarpThreads; ++l) put_a(a, p.a[l], l);
  for (int o = 0; o < p.n_octets; ++o) {
    float b[16][8], c[16][8];
    for (uint32_t n = 0; n < 8; ++n) {
      for (uint32_t k = 0; k < 16; ++k) {
        const uint32_t at = swizzled_128(start + static_cast<uint32_t>(o) * stride + n * 128 + 2 * k);
        if (at < kDynamicAt || at + 2 > kDynamicAt + machine.dynamic_bytes)
          die("wgmma reads B at shared address %u", at);
        uint16_t bits;
        std::memcpy(&bits, cta.window + at, sizeof bits);
        b[k][n] = half_at(bits, 0);
      }
    }
    constexpr float kZeros[4] = {};
    for (int l = 0; l < kWarpThreads; ++l) put_sums(c, p.add ? p.sums[l] + 4 * o : kZeros, l);
    multiply(c, a, b);
    for (int l = 0; l < kWarpThreads; ++l) get_sums(c, p.sums[l] + 4 * o, l);
  }
}

struct WgmmaLane {
  float* sums;
  uint32_t a[4];
  uint64_t b;
  int n_octets;
  bool add;
};

// The four warps of a warpgroup have to start the same products in the same order.
void check_warpgroup(const Warp& warp, const Wgmma& p, int w) {
  auto& issued = machine.here->warps[w - w % kWarpgroupWarps].issued;
  const std::pair<uint64_t, uint64_t> key{p.b, static_cast<uint64_t>(p.n_octets * 2 + p.add)};
  if (issued.size() <= warp.n_issued) {
    issued.push_back(key);
  } else if (issued[warp.n_issued] != key) {
    die("product %zu of warp %d of a warpgroup differs from the others'", size_t{warp.n_issued}, w % kWarpgroupWarps);
  }
}

void start_product(Lanes lanes, uint32_t) {
  const int w = machine.self->thread / kWarpThreads;
  Warp& warp = machine.here->warps[w];
  const auto& first = *static_cast<const WgmmaLane*>(lanes[0]);
  Wgmma p{.sums = {}, .a = {}, .b = first.b, .n_octets = first.n_octets, .add = first.add, .group = warp.group};
  for (int l = 0; l < kWarpThreads; ++l) {
    const auto& mine = *static_cast<const WgmmaLane*>(lanes[l]);
    if (mine.b != p.b || mine.add != p.add) die("lanes of a warp give wgmma different descriptors of B");
    p.sums[l] = mine.sums;
    std::memcpy(p.a[l], mine.a, sizeof mine.a);
  }
  check_warpgroup(warp, p, w);
  ++warp.n_issued;
  if (warp.products.empty() && toss(kAtOnceOf16)) {
    carry_out(*machine.here, p);
    ++warp.n_done;
  } else {
    warp.products.push_back(p);
  }
}

}  // namespace

void ldmatrix_x4(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t address, bool transposed) {
  Ldmatrix mine{static_cast<const char*>(pointer_of(address, 16, 16)), {}, transposed};
  collective(kAllLanes, "ldmatrix", load_matrices, &mine);
  a = mine.out[0];
  b = mine.out[1];
  c = mine.out[2];
  d = mine.out[3];
}

void mma_f16(float& d0, float& d1, float& d2, float& d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
             uint32_t b0, uint32_t b1, float c0, float c1, float c2, float c3) {
  Mma<float> mine{{a0, a1, a2, a3}, {b0, b1}, {c0, c1, c2, c3}};
  collective(kAllLanes, "mma.m16n8k16", multiply_f16, &mine);
  d0 = mine.sums[0];
  d1 = mine.sums[1];
  d2 = mine.sums[2];
  d3 = mine.sums[3];
}

void mma_s8(bool a_unsigned, int& d0, int& d1, int& d2, int& d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
            uint32_t b0, uint32_t b1, int c0, int c1, int c2, int c3) {
  Mma<int> mine{{a0, a1, a2, a3}, {b0, b1}, {c0, c1, c2, c3}, a_unsigned};
  collective(kAllLanes, "mma.m16n8k32", multiply_s8, &mine);
  d0 = mine.sums[0];
  d1 = mine.sums[1];
  d2 = mine.sums[2];
  d3 = mine.sums[3];
}

void wgmma(float* sums, int n_octets, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  WgmmaLane mine{sums, {a0, a1, a2, a3}, b, n_octets, add};
  collective(kAllLanes, "wgmma.mma_async", start_product, &mine);
}

void wgmma_fence() {
  collective(
      kAllLanes, "wgmma.fence", [](Lanes, uint32_t) {}, nullptr);
}

void wgmma_commit() {
  collective(
      kAllLanes, "wgmma.commit_group",
      [](Lanes, uint32_t) { ++machine.here->warps[machine.self->thread / kWarpThreads].group; }, nullptr);
}

void wgmma_wait(int n_open) {
  collective(
      kAllLanes, "wgmma.wait_group", [](Lanes, uint32_t) {}, nullptr);
  const int w = machine.self->thread / kWarpThreads, first = w - w % kWarpgroupWarps;
  Warp& warp = machine.here->warps[w];
  const auto n_awaited = [&] {  // recomputed after waits: the warp's first lane to go on carries them out
    size_t n = 0;
    while (n < warp.products.size() && warp.products[n].group + static_cast<uint64_t>(n_open) < warp.group) ++n;
    return n;
  };
  // The tensor cores begin when all four warps are there.
  for (int other = first; other < first + kWarpgroupWarps; ++other) {
    const uint64_t wanted = warp.n_done + n_awaited();
    if (machine.here->warps[other].n_issued >= wanted) continue;
    machine.self->count = &machine.here->warps[other].n_issued;
    machine.self->value = wanted;
    wait_as(Wait::kReach, "wgmma.wait_group, for another warp");
  }
  const size_t n = n_awaited();
  for (size_t i = 0; i < n; ++i) carry_out(*machine.here, warp.products[i]);
  warp.products.erase(warp.products.begin(), warp.products.begin() + static_cast<ptrdiff_t>(n));
  warp.n_done += n;
}

}  // namespace emu
