#include "backend/cuda/gemm.h"

#include <algorithm>
#include <bit>
#include <cublasLt.h>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <tuple>

#include "backend/cuda/cuda_check.h"

namespace spate::cuda {

struct Gemm::Library {
  void* handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  cublasLtHandle_t blas = nullptr;

  using Shape =
      std::tuple<int, int, int, int64_t, bool, uint32_t>;  // tokens, rows, columns, stride, addition, alignment of y
  std::mutex mutex;
  std::map<Shape, cublasLtMatmulAlgo_t> algorithms;

  ~Library() {
    if (blas != nullptr) destroy(blas);
    if (handle != nullptr) dlclose(handle);
  }
};

namespace {

void check(cublasStatus_t status, const GemmArgs& args, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(cudaErrorUnknown,
                  fmt::format("cuBLASLt: {} failed with status {} (product of {} tokens, {} rows, {} columns)", what,
                              static_cast<int>(status), args.n_tokens, args.n_rows, args.n_cols));
}

// The largest power of two up to 256 that divides an address.
uint32_t alignment_of(const void* address) {
  return 1u << std::min(std::countr_zero(reinterpret_cast<uintptr_t>(address)), 8);
}

}  // namespace

Gemm::Gemm(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Gemm::~Gemm() = default;

Result<std::unique_ptr<Gemm>> Gemm::open() {
  auto library = std::make_unique<Library>();
  for (const char* name : {"libcublasLt.so." SPATE_CUBLASLT_MAJOR, "libcublasLt.so"}) {
    library->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library->handle != nullptr) break;
  }
  if (library->handle == nullptr)
    return Error::unsupported(fmt::format("no libcublasLt.so.{} found: {}", SPATE_CUBLASLT_MAJOR, dlerror()));
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library->handle, name));
    if (function == nullptr) missing = name;
  };
  find(library->create, "cublasLtCreate");
  find(library->destroy, "cublasLtDestroy");
  find(library->matmul, "cublasLtMatmul");
  find(library->desc_create, "cublasLtMatmulDescCreate");
  find(library->desc_destroy, "cublasLtMatmulDescDestroy");
  find(library->desc_set, "cublasLtMatmulDescSetAttribute");
  find(library->layout_create, "cublasLtMatrixLayoutCreate");
  find(library->layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(library->preference_create, "cublasLtMatmulPreferenceCreate");
  find(library->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(library->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(library->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  if (missing != nullptr) return Error::unsupported(fmt::format("libcublasLt has no {}", missing));
  if (const cublasStatus_t status = library->create(&library->blas); status != CUBLAS_STATUS_SUCCESS)
    return Error::unsupported(fmt::format("cublasLtCreate failed with status {}", static_cast<int>(status)));
  return std::unique_ptr<Gemm>(new Gemm(std::move(library)));
}

void Gemm::run(const GemmArgs& args, std::byte* scratch, cudaStream_t stream) const {
  Library& lib = *library_;
  // cuBLAS is column-major: y^T [rows, tokens] = w^T-transposed [rows, columns] times x^T [columns, tokens].
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  check(lib.desc_create(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), args, "describing the product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(lib.desc_set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), args,
        "describing the product");
  const auto rows = static_cast<uint64_t>(args.n_rows), cols = static_cast<uint64_t>(args.n_cols),
             tokens = static_cast<uint64_t>(args.n_tokens);
  check(lib.layout_create(&w, CUDA_R_16F, cols, rows, args.n_cols), args, "describing the weights");
  check(lib.layout_create(&x, CUDA_R_16F, cols, tokens, args.n_cols), args, "describing the activations");
  check(lib.layout_create(&y, CUDA_R_32F, rows, tokens, args.y_stride), args, "describing the output");

  cublasLtMatmulAlgo_t algorithm;
  {
    const std::lock_guard lock(lib.mutex);
    const uint32_t y_alignment = alignment_of(args.y);
    const Library::Shape shape{args.n_tokens, args.n_rows, args.n_cols, args.y_stride, args.beta != 0, y_alignment};
    auto found = lib.algorithms.find(shape);
    if (found == lib.algorithms.end()) {
      cublasLtMatmulPreference_t preference = nullptr;
      check(lib.preference_create(&preference), args, "asking for an algorithm");
      const size_t scratch_bytes = kScratchBytes;
      check(lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch_bytes,
                               sizeof scratch_bytes),
            args, "asking for an algorithm");
      for (const auto attribute :
           {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        check(lib.preference_set(preference, attribute, &y_alignment, sizeof y_alignment), args,
              "asking for an algorithm");
      cublasLtMatmulHeuristicResult_t result{};
      int n_results = 0;
      const cublasStatus_t status = lib.heuristic(lib.blas, product, w, x, y, y, preference, 1, &result, &n_results);
      lib.preference_destroy(preference);
      check(status, args, "asking for an algorithm");
      if (n_results == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, args, "asking for an algorithm");
      found = lib.algorithms.emplace(shape, result.algo).first;
    }
    algorithm = found->second;
  }
  const cublasStatus_t status = lib.matmul(lib.blas, product, &args.alpha, args.w, w, args.x, x, &args.beta, args.y, y,
                                           args.y, y, &algorithm, scratch, kScratchBytes, stream);
  lib.layout_destroy(y);
  lib.layout_destroy(x);
  lib.layout_destroy(w);
  lib.desc_destroy(product);
  check(status, args, "the product");
}

}  // namespace spate::cuda
