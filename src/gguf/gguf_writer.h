// Writes GGUF files, version 3. Tensor data is streamed: a file may be far larger than memory.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "gguf/gguf_file.h"
#include "gguf/gguf_value.h"
#include "quant/quant_type.h"

namespace spate {

template <typename T>
concept GgufScalar = std::same_as<T, uint8_t> || std::same_as<T, int8_t> || std::same_as<T, uint16_t> ||
    std::same_as<T, int16_t> || std::same_as<T, uint32_t> || std::same_as<T, int32_t> || std::same_as<T, uint64_t> ||
    std::same_as<T, int64_t> || std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bool>;

template <GgufScalar T>
constexpr GgufType gguf_type_of() {
  if constexpr (std::same_as<T, uint8_t>) return GgufType::kU8;
  if constexpr (std::same_as<T, int8_t>) return GgufType::kI8;
  if constexpr (std::same_as<T, uint16_t>) return GgufType::kU16;
  if constexpr (std::same_as<T, int16_t>) return GgufType::kI16;
  if constexpr (std::same_as<T, uint32_t>) return GgufType::kU32;
  if constexpr (std::same_as<T, int32_t>) return GgufType::kI32;
  if constexpr (std::same_as<T, float>) return GgufType::kF32;
  if constexpr (std::same_as<T, bool>) return GgufType::kBool;
  if constexpr (std::same_as<T, uint64_t>) return GgufType::kU64;
  if constexpr (std::same_as<T, int64_t>) return GgufType::kI64;
  if constexpr (std::same_as<T, double>) return GgufType::kF64;
}

// Takes the bytes of one tensor in order, in pieces of any size.
class GgufTensorSink {
 public:
  Result<void> write(std::span<const std::byte> bytes);

 private:
  friend class GgufWriter;
  GgufTensorSink(AtomicFile& file, uint64_t expected_bytes) : file_(file), remaining_bytes_(expected_bytes) {}

  AtomicFile& file_;
  uint64_t remaining_bytes_;
};

// Collects metadata and tensors, then writes them in the order in which they were added: the same calls give the same
// bytes. Keys, names and shapes that break the format are our own bugs, not Errors.
//
//   GgufWriter writer;
//   writer.set("general.architecture", "llama");
//   writer.set("llama.block_count", uint32_t{2});  // the width of the C++ type is the width in the file
//   writer.set("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "a"});
//   writer.add_tensor("output_norm.weight", {64}, std::vector<float>(64, 1.0f));
//   SPATE_TRY_VOID(writer.write("model.gguf"));
class GgufWriter {
 public:
  // Called once by write(), with exactly the tensor's bytes to be given to the sink; its Error ends the write.
  using Source = std::function<Result<void>(GgufTensorSink&)>;

  // A key that was set before keeps its place and takes the new value. general.alignment (u32, a power of two of at
  // least 8) is what the tensors' data is aligned to; 32 where it is not set.
  template <GgufScalar T>
  void set(std::string_view key, T value) {
    std::string bytes;
    append_scalar(bytes, value);
    set_encoded(key, gguf_type_of<T>(), std::move(bytes));
  }
  void set(std::string_view key, std::string_view value);
  template <GgufScalar T>
  void set(std::string_view key, const std::vector<T>& values) {
    std::string bytes;
    append_scalar(bytes, static_cast<uint32_t>(gguf_type_of<T>()));
    append_scalar(bytes, static_cast<uint64_t>(values.size()));
    for (const T value : values) append_scalar(bytes, value);
    set_encoded(key, GgufType::kArray, std::move(bytes));
  }
  void set(std::string_view key, std::span<const std::string> values);
  void set(std::string_view key, const std::vector<std::string>& values) { set(key, std::span(values)); }
  // All of another file's metadata, each value in the type that it has there, but for the keys that make the file a
  // part of a split model: what is written here is whole.
  void copy_metadata(const GgufFile& file);
  void remove(std::string_view key);  // or nothing, where it is not set

  // dims[0] is the contiguous dimension; 1 to 4 of them. `source` gives the data when the file is written.
  void add_tensor(std::string_view name, QuantType type, std::span<const int64_t> dims, Source source);
  // With the data itself, kept until the writer goes: for small tensors.
  void add_tensor(std::string_view name, QuantType type, std::initializer_list<int64_t> dims,
                  std::vector<std::byte> data);
  void add_tensor(std::string_view name, std::initializer_list<int64_t> dims, const std::vector<float>& values);
  void remove_tensor(std::string_view name);  // or nothing, where there is none

  // Writes the whole file, which appears under its name only when it is complete. May be called again. Error kIo, or
  // that of a source.
  Result<void> write(const std::string& path) const;

 private:
  struct Entry {
    std::string key;
    GgufType type;
    std::string bytes;  // the value, encoded
  };
  struct Tensor {
    std::string name;
    QuantType type;
    std::vector<int64_t> dims;
    uint64_t n_bytes;
    Source source;
  };

  template <GgufScalar T>
  static void append_scalar(std::string& out, T value) {
    static_assert(sizeof(bool) == 1);
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void set_encoded(std::string_view key, GgufType type, std::string bytes);
  uint32_t alignment() const;
  std::string header(uint32_t alignment) const;  // everything before the data section, padding included

  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
};

}  // namespace spate
