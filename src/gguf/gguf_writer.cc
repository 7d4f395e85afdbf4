#include "gguf/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/utf8.h"

namespace spate {

namespace {

constexpr uint32_t kVersion = 3;

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out += text;
}

void append_array_header(std::string& out, GgufType element_type, uint64_t size) {
  append(out, static_cast<uint32_t>(element_type));
  append(out, size);
}

uint64_t aligned(uint64_t n_bytes, uint32_t alignment) {
  return (n_bytes + alignment - 1) / alignment * alignment;
}

std::string encode(GgufType type, const GgufValue& value) {
  std::string bytes;
  if (type == GgufType::kString) {
    append_string(bytes, std::get<std::string_view>(value));
  } else if (type == GgufType::kArray) {
    const auto& array = std::get<GgufArray>(value);
    append_array_header(bytes, array.element_type, array.size);
    if (array.element_type == GgufType::kString)
      for (std::string_view text : array.strings) append_string(bytes, text);
    else
      bytes.append(reinterpret_cast<const char*>(array.data), array.size * scalar_bytes(array.element_type));
  } else {
    with_scalar_type(type, [&](auto zero) {
      using T = decltype(zero);
      std::visit(
          [&](const auto& wide) {
            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(wide)>>) append(bytes, static_cast<T>(wide));
          },
          value);
    });
  }
  return bytes;
}

}  // namespace

Result<void> GgufTensorSink::write(std::span<const std::byte> bytes) {
  SPATE_CHECK(bytes.size() <= remaining_bytes_, "{} bytes for a tensor that wants {} more", bytes.size(),
              remaining_bytes_);
  remaining_bytes_ -= bytes.size();
  return file_.write(bytes.data(), bytes.size());
}

void GgufWriter::set(std::string_view key, std::string_view value) {
  std::string bytes;
  append_string(bytes, value);
  set_encoded(key, GgufType::kString, std::move(bytes));
}

void GgufWriter::set(std::string_view key, std::span<const std::string> values) {
  std::string bytes;
  append_array_header(bytes, GgufType::kString, values.size());
  for (const std::string& value : values) append_string(bytes, value);
  set_encoded(key, GgufType::kArray, std::move(bytes));
}

void GgufWriter::copy_metadata(const GgufFile& file) {
  for (size_t i = 0; i < file.metadata().size(); ++i) {
    const auto& [key, value] = file.metadata()[i];
    if (key.starts_with("split.")) continue;
    set_encoded(key, file.metadata_types()[i], encode(file.metadata_types()[i], value));
  }
}

void GgufWriter::set_encoded(std::string_view key, GgufType type, std::string bytes) {
  SPATE_CHECK(!key.empty() && is_valid_utf8(key), "key {}", quote(key));
  const auto there = std::ranges::find(entries_, key, &Entry::key);
  if (there == entries_.end())
    entries_.push_back({std::string(key), type, std::move(bytes)});
  else
    *there = {std::string(key), type, std::move(bytes)};
}

void GgufWriter::remove(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.key == key; });
}

void GgufWriter::add_tensor(std::string_view name, QuantType type, std::span<const int64_t> dims, Source source) {
  SPATE_CHECK(!name.empty() && is_valid_utf8(name) && name.size() <= 64, "tensor {}", quote(name));
  SPATE_CHECK(std::ranges::find(tensors_, name, &Tensor::name) == tensors_.end(), "tensor {} twice", quote(name));
  SPATE_CHECK(!dims.empty() && dims.size() <= 4, "tensor {} of {} dimensions", quote(name), dims.size());
  const QuantTraits& traits = quant_traits(type);
  SPATE_CHECK(dims[0] % traits.block_elems == 0, "tensor {}: rows of {} for {}", quote(name), dims[0], traits.name);
  int64_t n_elems = 1;
  for (int64_t dim : dims)
    SPATE_CHECK(dim > 0 && !__builtin_mul_overflow(n_elems, dim, &n_elems), "tensor {}: dimension {}", quote(name),
                dim);
  tensors_.push_back({std::string(name), type, std::vector(dims.begin(), dims.end()),
                      static_cast<uint64_t>(quant_bytes(type, n_elems)), std::move(source)});
}

void GgufWriter::add_tensor(std::string_view name, QuantType type, std::initializer_list<int64_t> dims,
                            std::vector<std::byte> data) {
  // Shared, because a std::function is copied.
  const auto kept = std::make_shared<const std::vector<std::byte>>(std::move(data));
  add_tensor(name, type, std::span(dims.begin(), dims.size()),
             [kept](GgufTensorSink& sink) { return sink.write(*kept); });
  SPATE_CHECK(tensors_.back().n_bytes == kept->size(), "tensor {}: {} bytes of data for {}", quote(name), kept->size(),
              tensors_.back().n_bytes);
}

void GgufWriter::add_tensor(std::string_view name, std::initializer_list<int64_t> dims,
                            const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  add_tensor(name, QuantType::kF32, dims, std::vector(bytes.begin(), bytes.end()));
}

void GgufWriter::remove_tensor(std::string_view name) {
  std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

uint32_t GgufWriter::alignment() const {
  const auto entry = std::ranges::find(entries_, "general.alignment", &Entry::key);
  if (entry == entries_.end()) return kGgufDefaultAlignment;
  SPATE_CHECK(entry->type == GgufType::kU32, "general.alignment is of type {}", gguf_type_name(entry->type));
  uint32_t alignment;
  std::memcpy(&alignment, entry->bytes.data(), sizeof alignment);
  SPATE_CHECK(alignment >= 8 && std::has_single_bit(alignment), "general.alignment is {}", alignment);
  return alignment;
}

std::string GgufWriter::header(uint32_t alignment) const {
  std::string out = "GGUF";
  append(out, kVersion);
  append(out, static_cast<uint64_t>(tensors_.size()));
  append(out, static_cast<uint64_t>(entries_.size()));
  for (const Entry& entry : entries_) {
    append_string(out, entry.key);
    append(out, static_cast<uint32_t>(entry.type));
    out += entry.bytes;
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(out, tensor.name);
    append(out, static_cast<uint32_t>(tensor.dims.size()));
    for (int64_t dim : tensor.dims) append(out, static_cast<uint64_t>(dim));
    append(out, static_cast<uint32_t>(tensor.type));
    append(out, offset);
    offset += aligned(tensor.n_bytes, alignment);
  }
  out.resize(aligned(out.size(), alignment));
  return out;
}

Result<void> GgufWriter::write(const std::string& path) const {
  SPATE_TRY(AtomicFile file, AtomicFile::create(path));
  const uint32_t align = alignment();
  SPATE_TRY_VOID(file.write(header(align)));
  const std::string padding(align, '\0');
  for (const Tensor& tensor : tensors_) {
    GgufTensorSink sink(file, tensor.n_bytes);
    SPATE_TRY_VOID(tensor.source(sink));
    SPATE_CHECK(sink.remaining_bytes_ == 0, "tensor {}: its source left {} bytes out", quote(tensor.name),
                sink.remaining_bytes_);
    SPATE_TRY_VOID(file.write(padding.data(), aligned(tensor.n_bytes, align) - tensor.n_bytes));
  }
  return file.commit();
}

}  // namespace spate
