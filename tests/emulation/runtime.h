// The part of the runtime's state that launching needs.
#pragma once
#include <cstddef>
#include <cuda_runtime_api.h>

namespace emu {

cudaError_t fail(cudaError_t code);        // returns it, for cudaGetLastError() to find
size_t dynamic_limit(const void* kernel);  // bytes of dynamic shared memory that a launch may ask for

}  // namespace emu
