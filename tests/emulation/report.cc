// What is said of errors, and how the program ends: with status 77 where the use of an instruction is undefined, 78
// where something was complained of, 79 at a fault.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <signal.h>
#include <string>
#include <unistd.h>

#include "machine.h"

extern dim3 gridDim;

namespace emu {
namespace {

constexpr int kMaxComplaints = 20;
int n_complaints = 0;

void say_where() {
  if (machine.here != nullptr && machine.self != nullptr) {
    const uint3 cta = machine.here->index;
    std::fprintf(
        stderr, "emulation:   CTA (%u, %u, %u), thread %d, of a grid (%u, %u, %u) of %d threads, clusters of %d\n",
        cta.x, cta.y, cta.z, machine.self->thread, gridDim.x, gridDim.y, gridDim.z, machine.n_threads, machine.n_ctas);
  }
  const char* const kind = machine.here != nullptr ? "kernel" : "in host code; the last kernel was";
  std::fprintf(stderr, "emulation:   %s %s\n", kind, name_of(machine.kernel).c_str());
}

void say(const char* kind, const char* format, va_list args) {
  std::fflush(stdout);
  std::fprintf(stderr, "emulation: %s", kind);
  std::vfprintf(stderr, format, args);
  std::fprintf(stderr, "\n");
  say_where();
}

[[noreturn]] void leave(int status) {
  std::fflush(stdout);
  std::fflush(stderr);
  _exit(status);
}

// A line a warp: which lanes wait in what.
void say_waits(const Cta& cta, int warp) {
  std::map<std::string, uint32_t> lanes_of;
  for (int l = 0; l < kWarpThreads; ++l) {
    const Fiber& f = cta.fibers[static_cast<size_t>(kWarpThreads * warp + l)];
    std::string what = f.ended ? "ended" : f.what;
    if (!f.ended && f.wait == Wait::kBarrier) {
      const auto at = static_cast<const char*>(f.barrier) - cta.window;
      what += " at " + std::to_string(at) + ", parity " + std::to_string(f.value);
    }
    lanes_of[what] |= 1u << l;
  }
  std::fprintf(stderr, "emulation:   CTA %d, warp %d:", static_cast<int>(&cta - machine.ctas), warp);
  for (const auto& [what, lanes] : lanes_of) std::fprintf(stderr, " %s [%08x]", what.c_str(), lanes);
  std::fprintf(stderr, "\n");
}

void on_fault(int, siginfo_t* info, void*) {
  long byte = 0;
  size_t n_bytes = 0;
  std::fflush(stdout);
  if (info->si_addr == nullptr) {
    std::fprintf(stderr,
                 "emulation: a call or an access of address 0; kernels of types that were left out are there\n");
  } else if (near_allocation(info->si_addr, byte, n_bytes)) {
    std::fprintf(stderr, "emulation: an access of byte %ld of an allocation of %zu\n", byte, n_bytes);
  } else {
    std::fprintf(stderr, "emulation: an access of %p, which is in no allocation\n", info->si_addr);
  }
  say_where();
  leave(79);
}

// A fiber's stack may be what overflowed, so that faults have a stack of their own.
struct FaultHandlers {
  FaultHandlers() {
    static char stack[64 << 10];
    stack_t alternative{};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
  }
} fault_handlers;

struct StatusAtExit {
  ~StatusAtExit() {
    if (n_complaints == 0) return;
    std::fprintf(stderr, "emulation: %d complaints\n", n_complaints);
    leave(78);
  }
} status_at_exit;

}  // namespace

std::string name_of(const void* kernel) {
  Dl_info info{};
  if (dladdr(kernel, &info) == 0) return "none";
  if (info.dli_sname == nullptr) {  // of an unnamed namespace
    char text[64];
    std::snprintf(text, sizeof text, "at %#tx (addr2line -Cfe PROGRAM says its name)",
                  static_cast<const char*>(kernel) - static_cast<const char*>(info.dli_fbase));
    return text;
  }
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> readable(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                        std::free);
  return status == 0 ? readable.get() : info.dli_sname;
}

void die(const char* format, ...) {
  va_list args;
  va_start(args, format);
  say("", format, args);
  va_end(args);
  leave(77);
}

void complain(const char* format, ...) {
  if (++n_complaints > kMaxComplaints) return;
  va_list args;
  va_start(args, format);
  say("complaint: ", format, args);
  va_end(args);
}

void die_of_deadlock() {
  machine.self = nullptr;
  for (int c = 0; c < machine.n_ctas; ++c)
    for (int w = 0; w < machine.n_warps; ++w) say_waits(machine.ctas[c], w);
  die("deadlock: no thread can go on");
}

}  // namespace emu
