// Stands for CUDA's header of this name where kernels run on the CPU. Types and the runtime's interface are CUDA's own
// (cuda_runtime_api.h); what that header adds for nvcc, a launch with typed arguments, is here.
#pragma once
#include <cuda_runtime_api.h>
#include <tuple>
#include <utility>
#include <vector_functions.h>

namespace emu {
// Runs a grid to its end. body(context) is the kernel with its arguments, called once a thread. Refuses, as the runtime
// does, what the device has no room for.
cudaError_t run_grid(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(void*), void* context);
}  // namespace emu

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;
  } call{kernel, std::tuple<Params...>(std::forward<Args>(args)...)};
  return emu::run_grid(
      *config, reinterpret_cast<const void*>(kernel),
      [](void* context) {
        auto* c = static_cast<Call*>(context);
        std::apply(c->kernel, c->params);
      },
      &call);
}
