// CUDA's runtime interface, as far as the tests of kernels call it, over the machine: one device of capability 9.0,
// streams in order and without delay (a launch has run when it returns), copies at once.
#include "runtime.h"

#include <cstdlib>
#include <cstring>
#include <cuda.h>
#include <cudaTypedefs.h>
#include <map>

#include "machine.h"
#include "tensor_map.h"

namespace emu {
namespace {

constexpr size_t kDeviceBytes = size_t{4} << 30;
cudaError_t last_error = cudaSuccess;

std::map<const void*, size_t>& raised_limits() {
  static std::map<const void*, size_t> all;
  return all;
}

// cuTensorMapEncodeTiled() for matrices of float16; what a driver would refuse is refused.
CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data, const cuuint64_t* sizes,
                      const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* steps,
                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                      CUtensorMapFloatOOBfill fill) {
  constexpr uint32_t kElemBytes = 2;
  const bool known = rank == 2 && type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 && steps[0] == 1 && steps[1] == 1 &&
                     interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
                     (swizzle == CU_TENSOR_MAP_SWIZZLE_128B || swizzle == CU_TENSOR_MAP_SWIZZLE_NONE);
  const bool good = known && reinterpret_cast<uintptr_t>(data) % 16 == 0 && strides[0] % 16 == 0 && sizes[0] > 0 &&
                    sizes[1] > 0 && box[0] > 0 && box[0] <= 256 && box[1] > 0 && box[1] <= 256 &&
                    (swizzle != CU_TENSOR_MAP_SWIZZLE_128B || box[0] * kElemBytes <= 128);
  if (!good) return CUDA_ERROR_INVALID_VALUE;
  const TensorMap m{.magic = TensorMap::kMagic,
                    .data = static_cast<const char*>(data),
                    .n_cols = sizes[0],
                    .n_rows = sizes[1],
                    .row_bytes = strides[0],
                    .box_cols = box[0],
                    .box_rows = box[1],
                    .elem_bytes = kElemBytes,
                    .swizzle = static_cast<uint32_t>(swizzle)};
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &m, sizeof m);
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t fail(cudaError_t code) {
  return last_error = code;
}

size_t dynamic_limit(const void* kernel) {
  const auto at = raised_limits().find(kernel);
  return at == raised_limits().end() ? kDefaultSharedBytes : at->second;
}

}  // namespace emu

extern "C" {

// --- memory

cudaError_t cudaMalloc(void** p, size_t n) {
  *p = emu::allocate(n);
  return *p != nullptr ? cudaSuccess : emu::fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* p) {
  return p == nullptr || emu::release(p) ? cudaSuccess : emu::fail(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
  *p = std::aligned_alloc(4096, (n + 4095) / 4096 * 4096);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind) {
  std::memcpy(d, s, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(d, s, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, cudaMemcpyKind) {
  for (size_t i = 0; i < h; ++i) std::memcpy(static_cast<char*>(d) + i * dp, static_cast<const char*>(s) + i * sp, w);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, cudaMemcpyKind k,
                              cudaStream_t) {
  return cudaMemcpy2D(d, dp, s, sp, w, h, k);
}
cudaError_t cudaMemset(void* d, int v, size_t n) {
  std::memset(d, v, n);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t) {
  std::memset(d, v, n);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) {
  *f = *t = emu::kDeviceBytes;
  return cudaSuccess;
}

// --- the device

cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* d) {
  *d = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "emulated");
  p->major = 9;
  p->multiProcessorCount = emu::options().n_sms;
  p->totalGlobalMem = emu::kDeviceBytes;
  p->l2CacheSize = 50 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  if (a != cudaDevAttrMaxSharedMemoryPerBlockOptin) return emu::fail(cudaErrorInvalidValue);
  *v = static_cast<int>(emu::kSharedBytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute a, int v) {
  if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (v < 0 || static_cast<size_t>(v) > emu::kSharedBytes) return emu::fail(cudaErrorInvalidValue);
  emu::raised_limits()[kernel] = static_cast<size_t>(v);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* n, const void*, const cudaLaunchConfig_t* config) {
  *n = emu::options().n_sms;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& a = config->attrs[i];
    if (a.id != cudaLaunchAttributeClusterDimension) continue;
    *n /= static_cast<int>(a.val.clusterDim.x * a.val.clusterDim.y * a.val.clusterDim.z);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** f, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  if (std::strcmp(name, "cuTensorMapEncodeTiled") != 0) return emu::fail(cudaErrorInvalidValue);
  *f = reinterpret_cast<void*>(emu::encode_tiled);
  *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// --- errors, streams and events

cudaError_t cudaGetLastError() {
  return std::exchange(emu::last_error, cudaSuccess);
}
const char* cudaGetErrorString(cudaError_t) {
  return "an error of the emulation";
}
const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorEmulated";
}
cudaError_t cudaStreamCreate(cudaStream_t* s) {
  *s = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) {
  *e = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* t, cudaEvent_t, cudaEvent_t) {
  *t = 1;
  return cudaSuccess;
}

// --- graphs: there are none

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return emu::fail(cudaErrorNotSupported);
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) {
  return emu::fail(cudaErrorNotSupported);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) {
  return emu::fail(cudaErrorNotSupported);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  return emu::fail(cudaErrorNotSupported);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
  return emu::fail(cudaErrorNotSupported);
}
cudaError_t cudaGraphDestroy(cudaGraph_t) {
  return emu::fail(cudaErrorNotSupported);
}
}
