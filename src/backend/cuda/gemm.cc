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
  decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
  cublasLtHandle_t blas = nullptr;

  // Tokens, rows, columns, stride, addition, alignment of y, types.
  using Shape = std::tuple<int, int, int, int64_t, bool, uint32_t, GemmTypes>;
  std::mutex mutex;
  std::map<Shape, cublasLtMatmulAlgo_t> algorithms;

  struct Description;
  cublasLtMatmulAlgo_t ask(const GemmArgs& args, const Description& of);
  cublasLtMatmulAlgo_t algorithm(const GemmArgs& args, const Description& exact);

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
  find(library->algo_check, "cublasLtMatmulAlgoCheck");
  if (missing != nullptr) return Error::unsupported(fmt::format("libcublasLt has no {}", missing));
  if (const cublasStatus_t status = library->create(&library->blas); status != CUBLAS_STATUS_SUCCESS)
    return Error::unsupported(fmt::format("cublasLtCreate failed with status {}", static_cast<int>(status)));
  return std::unique_ptr<Gemm>(new Gemm(std::move(library)));
}

struct Gemm::Library::Description {
  Library& lib;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;

  // Of args' product, but of n_tokens tokens. cuBLAS is column-major: y^T [rows, tokens] = w^T-transposed [rows,
  // columns] times x^T [columns, tokens].
  Description(Library& library, const GemmArgs& args, int n_tokens) : lib(library) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const auto rows = static_cast<uint64_t>(args.n_rows), cols = static_cast<uint64_t>(args.n_cols),
               tokens = static_cast<uint64_t>(n_tokens);
    cublasStatus_t status = lib.desc_create(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const auto then = [&](auto&& step) {
      if (status == CUBLAS_STATUS_SUCCESS) status = step();
    };
    then([&] { return lib.desc_set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed); });
    const bool fp8 = args.types != GemmTypes::kHalf;
    const cudaDataType_t operands = fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16F, result = fp8 ? CUDA_R_16BF : CUDA_R_32F;
    const int8_t fast_sums = args.types == GemmTypes::kFp8FastSums ? 1 : 0;
    if (fp8) then([&] { return lib.desc_set(product, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast_sums, sizeof fast_sums); });
    then([&] { return lib.layout_create(&w, operands, cols, rows, args.n_cols); });
    then([&] { return lib.layout_create(&x, operands, cols, tokens, args.n_cols); });
    then([&] { return lib.layout_create(&y, result, rows, tokens, args.y_stride); });
    if (status == CUBLAS_STATUS_SUCCESS) return;
    release();
    check(status, args, "describing the product");
  }
  ~Description() { release(); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;

  void release() {
    if (y != nullptr) lib.layout_destroy(y);
    if (x != nullptr) lib.layout_destroy(x);
    if (w != nullptr) lib.layout_destroy(w);
    if (product != nullptr) lib.desc_destroy(product);
  }
};

cublasLtMatmulAlgo_t Gemm::Library::ask(const GemmArgs& args, const Description& of) {
  cublasLtMatmulPreference_t preference = nullptr;
  check(preference_create(&preference), args, "asking for an algorithm");
  const size_t scratch_bytes = kScratchBytes;
  const uint32_t y_alignment = alignment_of(args.y);
  cublasLtMatmulHeuristicResult_t result{};
  int n_results = 0;
  cublasStatus_t status =
      preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch_bytes, sizeof scratch_bytes);
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    if (status == CUBLAS_STATUS_SUCCESS)
      status = preference_set(preference, attribute, &y_alignment, sizeof y_alignment);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = heuristic(blas, of.product, of.w, of.x, of.y, of.y, preference, 1, &result, &n_results);
  preference_destroy(preference);
  check(status, args, "asking for an algorithm");
  if (n_results == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, args, "asking for an algorithm");
  return result.algo;
}

// One algorithm serves kTokensPerAlgorithm numbers of tokens, where cuBLASLt has nothing against it: mixed steps have
// every number, and each new algorithm may be a kernel to load.
cublasLtMatmulAlgo_t Gemm::Library::algorithm(const GemmArgs& args, const Description& exact) {
  constexpr int kTokensPerAlgorithm = 128;
  const int most = (args.n_tokens + kTokensPerAlgorithm - 1) / kTokensPerAlgorithm * kTokensPerAlgorithm;
  const std::lock_guard lock(mutex);
  const auto cached = [&](int n_tokens, const Description& of) {
    const Shape shape{n_tokens,       args.n_rows,          args.n_cols, args.y_stride,
                      args.beta != 0, alignment_of(args.y), args.types};
    const auto found = algorithms.find(shape);
    return found != algorithms.end() ? found->second : algorithms.emplace(shape, ask(args, of)).first->second;
  };
  if (most != args.n_tokens) {
    const cublasLtMatmulAlgo_t shared = cached(most, Description(*this, args, most));
    cublasLtMatmulHeuristicResult_t fits{};
    const cublasStatus_t status = algo_check(blas, exact.product, exact.w, exact.x, exact.y, exact.y, &shared, &fits);
    if (status == CUBLAS_STATUS_SUCCESS && fits.workspaceSize <= kScratchBytes) return shared;
  }
  return cached(args.n_tokens, exact);
}

void Gemm::run(const GemmArgs& args, std::byte* scratch, cudaStream_t stream) const {
  const Library::Description product(*library_, args, args.n_tokens);
  const cublasLtMatmulAlgo_t chosen = library_->algorithm(args, product);
  check(library_->matmul(library_->blas, product.product, &args.alpha, args.w, product.w, args.x, product.x, &args.beta,
                         args.y, product.y, args.y, product.y, &chosen, scratch, kScratchBytes, stream),
        args, "the product");
}

}  // namespace spate::cuda
