// Weights on their way from the file's mapping to the device: host threads fill page-locked buffers, the copy engine
// empties them, and a kernel re-lays what arrived (matmul.h). All three overlap, so that a file in the page cache loads
// at about the speed of the slowest of them.
#pragma once

#include <array>
#include <cuda_runtime_api.h>
#include <functional>
#include <vector>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/matmul.h"
#include "base/thread_pool.h"
#include "model/model.h"

namespace spate::cuda {

class WeightUpload {
 public:
  // n_threads: of the host, to read with.
  WeightUpload(const Model& model, int n_threads);
  ~WeightUpload();
  WeightUpload(const WeightUpload&) = delete;
  WeightUpload& operator=(const WeightUpload&) = delete;

  // Notes a matrix to re-lay at `tiles` [packed_bytes()]; run() sets the scale in `packed`, which outlives it.
  void add_matrix(const Weight& weight, std::byte* tiles, PackedMatrix& packed);
  // Notes a matrix to copy as it is.
  void add_rows(const Weight& weight, std::byte* rows);

  // Uploads everything noted, in that order, and returns when the device has it. The pages of the mapping are released
  // on the way. progress: in [0, 1]; may be null. Throws CudaError.
  void run(const std::function<void(double fraction)>& progress);

 private:
  struct Item {
    const Weight* weight;
    std::byte* destination;
    PackedMatrix* packed;  // null: copied as it is
    MatrixScale scale;     // of `packed`, once it has been chosen
    int64_t n_bytes() const { return weight->n_rows * weight->row_bytes(); }
  };
  // A page-locked buffer and where on the device its bytes arrive.
  struct Buffer {
    std::byte* host;
    std::byte* device;
    cudaEvent_t free;  // recorded behind the last use of both
  };

  void choose_scales(size_t first, size_t end);
  void upload(const Item& item);
  int64_t send_rows(const Item& item, int64_t first_row);

  const Model& model_;
  ThreadPool pool_;
  std::vector<Item> items_;
  int64_t buffer_bytes_ = 0;
  PinnedMemory pinned_;
  DeviceArena staging_;
  std::array<Buffer, 4> buffers_{};
  size_t next_buffer_ = 0;
  cudaStream_t stream_ = nullptr;
};

}  // namespace spate::cuda
