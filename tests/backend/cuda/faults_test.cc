// A device that fails: every step in flight and every later one ends in an error that says what was attempted.
#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>

#include "backend/cuda/ops.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::TemporaryFolder;

constexpr ExecutorLimits kLimits{.max_seqs = 2, .max_step_tokens = 16, .n_pages = 4};

StepBatch one_token() {
  StepBatch batch;
  batch.tokens = {1};
  batch.from_row = {-1};
  batch.slot_ops = {{.slot = 0}};
  batch.slot = {0};
  batch.q_start = {0, 1};
  batch.kv_len = {1};
  batch.groups = {{.start = {0, 1}, .pages = {0}}};
  batch.rows = {{.token_index = 0, .slot = 0}};
  return batch;
}

// Makes the device fail for the whole process: a kernel writes where there is no memory.
void break_device() {
  const DeviceVector<int32_t> zeros(std::vector<int32_t>(16, 0)), one(std::vector<int32_t>{1});
  const DeviceVector<int32_t> given(std::vector<int32_t>{-1});
  const DeviceVector<TokenPlace> places(std::vector<TokenPlace>{{.position = 0, .page_plus_1 = 1}});
  const DeviceVector<float> table(std::vector<float>(64, 1.0f));
  embed({.table = table.get(),
         .type = QuantType::kF32,
         .d_model = 64,
         .row_bytes = 256,
         .batch = {.tokens = zeros.get(),
                   .from_row = given.get(),
                   .places = places.get(),
                   .q_start = zeros.get(),
                   .kv_len = one.get(),
                   .pages = zeros.get(),
                   .n_seqs_real = one.get()},
         .previous_tokens = zeros.get(),
         .residual = reinterpret_cast<float*>(uintptr_t{1} << 20)},
        1, nullptr);
  cudaDeviceSynchronize();
}

// In a process of its own, for the device does not come back in this one. Exits with the error's code.
[[noreturn]] void run_into_fault() {
  TemporaryFolder folder;
  const auto model = make_model({.n_layers = 1, .types = {QuantType::kQ8_0}}, folder.path("model.gguf"));
  const auto executor = make_executor(model, kLimits);
  if (executor == nullptr || !executor->wait(executor->enqueue(one_token())).ok()) std::exit(1);
  break_device();
  const StepId first = executor->enqueue(one_token()), second = executor->enqueue(one_token());
  const Result<StepOutput> in_flight = executor->wait(first), also_in_flight = executor->wait(second);
  const Result<StepOutput> later = executor->wait(executor->enqueue(one_token()));
  if (in_flight.ok() || also_in_flight.ok() || later.ok()) std::exit(1);
  if (later.error().message != in_flight.error().message) std::exit(1);
  std::fprintf(stderr, "%s\n", in_flight.error().message.c_str());
  std::exit(static_cast<int>(later.error().code));
}

TEST(CudaFaultDeathTest, DeviceFails_EveryStepDoesAndTheErrorNamesWhatWasAttempted) {
  SPATE_REQUIRE_GPU();
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(run_into_fault(), ::testing::ExitedWithCode(static_cast<int>(ErrorCode::kBackend)),
              "cudaErrorIllegalAddress.*, at [a-z_]+\\.c");
}

TEST(CudaFaults, DeviceThatIsGone_IsABackendError) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.n_layers = 1}, folder.path("model.gguf"));
  CudaExecutorOptions options{.limits = kLimits, .profile = *probe_device(0)};
  options.profile.device = 4096;
  const auto executor = make_cuda_executor(model, options);
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.error().code, ErrorCode::kBackend);
  EXPECT_NE(executor.error().message.find("using device 4096"), std::string::npos) << executor.error().message;
}

}  // namespace
}  // namespace spate::cuda::testing
