#include "backend/cuda/weight_upload.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "backend/cuda/cuda_check.h"
#include "base/log.h"

namespace spate::cuda {

namespace {

// Long enough that a copy takes many times what starting it does, short enough that the first one starts soon.
constexpr int64_t kBufferBytes = int64_t{16} << 20;
constexpr int64_t kCopyBytes = int64_t{1} << 20;  // what one host thread copies at a time
// Matrices whose scales are looked up side by side, ahead of their upload: enough for every thread to have one, little
// enough that their pages are still there when they are copied.
constexpr int64_t kLookAheadBytes = int64_t{512} << 20;

}  // namespace

WeightUpload::WeightUpload(const Model& model, int n_threads) : model_(model), pool_(n_threads) {
  SPATE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream for the weights");
}

WeightUpload::~WeightUpload() {
  // After a fault a copy may still be reading the buffers.
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const Buffer& buffer : buffers_)
    if (buffer.free != nullptr) cudaEventDestroy(buffer.free);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void WeightUpload::add_matrix(const Weight& weight, std::byte* tiles, PackedMatrix& packed) {
  packed = {.tiles = tiles,
            .type = weight.type(),
            .n_rows = static_cast<int>(weight.n_rows),
            .n_cols = static_cast<int>(weight.n_cols)};
  items_.push_back({.weight = &weight, .destination = tiles, .packed = &packed, .scale = {}});
}

void WeightUpload::add_rows(const Weight& weight, std::byte* rows) {
  items_.push_back({.weight = &weight, .destination = rows, .packed = nullptr, .scale = {}});
}

void WeightUpload::run(const std::function<void(double)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  int64_t total_bytes = 0;
  buffer_bytes_ = kBufferBytes;
  for (const Item& item : items_) {
    total_bytes += item.n_bytes();
    buffer_bytes_ = std::max(buffer_bytes_, aligned(kTileRows * item.weight->row_bytes()));
  }
  const auto n_buffers = static_cast<int64_t>(buffers_.size());
  pinned_ = PinnedMemory("the weights' way to the device", n_buffers * buffer_bytes_);
  staging_ = DeviceArena("the weights as they arrive", n_buffers * buffer_bytes_, false);
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i] = {.host = pinned_.data() + static_cast<int64_t>(i) * buffer_bytes_,
                   .device = staging_.take<std::byte>(buffer_bytes_),
                   .free = nullptr};
    SPATE_CUDA(cudaEventCreateWithFlags(&buffers_[i].free, cudaEventDisableTiming), "making an event");
  }
  int64_t done_bytes = 0;
  for (size_t first = 0; first < items_.size();) {
    size_t end = first;
    for (int64_t n_bytes = 0; end < items_.size() && n_bytes < kLookAheadBytes; ++end) n_bytes += items_[end].n_bytes();
    choose_scales(first, end);
    for (; first < end; ++first) {
      upload(items_[first]);
      done_bytes += items_[first].n_bytes();
      if (progress) progress(static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
    }
  }
  SPATE_CUDA(cudaStreamSynchronize(stream_), "uploading {} bytes of weights", total_bytes);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log::debug("uploaded {:.2f} GB of weights in {:.2f} s, {:.1f} GB/s", static_cast<double>(total_bytes) * 1e-9, seconds,
             static_cast<double>(total_bytes) * 1e-9 / seconds);
}

void WeightUpload::choose_scales(size_t first, size_t end) {
  for (size_t i = first; i < end; ++i) {
    const GgufTensor& tensor = *items_[i].weight->tensor;
    model_.file().file(tensor.file_index).will_need(tensor.offset, tensor.data.size());
  }
  pool_.parallel_for(static_cast<int64_t>(end - first), 1, [&](int, int64_t begin, int64_t stop) {
    for (int64_t i = begin; i < stop; ++i) {
      Item& item = items_[first + static_cast<size_t>(i)];
      if (item.packed == nullptr) continue;
      item.scale =
          choose_scale(item.weight->type(), item.weight->tensor->data.data(), item.weight->n_rows, item.weight->n_cols);
    }
  });
}

void WeightUpload::upload(const Item& item) {
  if (item.packed != nullptr) set_scale(item.scale, *item.packed, item.destination, stream_);
  for (int64_t row = 0; row < item.weight->n_rows;) row += send_rows(item, row);
  const GgufTensor& tensor = *item.weight->tensor;
  model_.file().file(tensor.file_index).release(tensor.offset, tensor.data.size());
}

// Sends as many rows as a buffer holds; returns how many. A matrix's rows go in whole panels, but for its last ones.
int64_t WeightUpload::send_rows(const Item& item, int64_t first_row) {
  const Weight& weight = *item.weight;
  const int64_t row_bytes = weight.row_bytes();
  const int64_t n_rows =
      std::min(weight.n_rows - first_row, buffer_bytes_ / row_bytes / kTileRows * int64_t{kTileRows});
  const int64_t n_bytes = n_rows * row_bytes;
  const Buffer& buffer = buffers_[next_buffer_];
  next_buffer_ = (next_buffer_ + 1) % buffers_.size();
  const std::string what = fmt::format("uploading rows {} to {} of tensor '{}', {} bytes", first_row,
                                       first_row + n_rows, weight.tensor->name, n_bytes);
  SPATE_CUDA(cudaEventSynchronize(buffer.free), "{}", what);

  const std::byte* from = weight.row(first_row);
  pool_.parallel_for((n_bytes + kCopyBytes - 1) / kCopyBytes, 1, [&](int, int64_t begin, int64_t end) {
    const int64_t at = begin * kCopyBytes;
    std::memcpy(buffer.host + at, from + at, static_cast<size_t>(std::min(end * kCopyBytes, n_bytes) - at));
  });
  std::byte* to = item.packed == nullptr ? item.destination + first_row * row_bytes : buffer.device;
  SPATE_CUDA(cudaMemcpyAsync(to, buffer.host, static_cast<size_t>(n_bytes), cudaMemcpyHostToDevice, stream_), "{}",
             what);
  if (item.packed != nullptr)
    pack_rows(buffer.device, static_cast<int>(first_row), static_cast<int>(n_rows), *item.packed, item.destination,
              stream_);
  SPATE_CUDA(cudaEventRecord(buffer.free, stream_), "{}", what);
  return n_rows;
}

}  // namespace spate::cuda
