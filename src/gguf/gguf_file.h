// A GGUF model file, read and validated: metadata and tensor directory. Format: the GGUF specification, versions 2 and
// 3, little-endian. Nothing here knows what a key or a tensor means.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "gguf/gguf_value.h"
#include "quant/quant_type.h"

namespace spate {

inline constexpr uint32_t kGgufDefaultAlignment = 32;  // where general.alignment is not given

struct GgufTensor {
  std::string name;
  QuantType type = QuantType::kF32;
  int n_dims = 0;
  // dims[0] is the contiguous one (columns), dims[1] rows; unused ones are 1
  std::array<int64_t, 4> dims = {1, 1, 1, 1};
  int file_index = 0;               // which file of a split model
  uint64_t offset = 0;              // of the data, from the start of that file
  std::span<const std::byte> data;  // in the mapping

  int64_t n_elems() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

// The whole model: for a split one ("name-00001-of-00005.gguf"), all its files, whichever of them was named.
class GgufFile {
 public:
  // Validates everything that the format alone requires before returning. Error kIo (a file or a part cannot be read),
  // kBadFile (breaks the format; the message names key or tensor and byte offset) or kUnsupported (a version or byte
  // order that spate does not read).
  static Result<GgufFile> open(const std::string& path);

  const std::string& path() const { return files_[0].path(); }  // the first file's
  uint32_t version() const { return version_; }
  int n_files() const { return static_cast<int>(files_.size()); }
  const MappedFile& file(int index) const { return files_[index]; }
  uint64_t total_bytes() const;

  // Metadata of the first file, in file order.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }
  // [metadata().size()] the type that each value has in the file, for writing it again as it was.
  const std::vector<GgufType>& metadata_types() const { return metadata_types_; }
  const GgufValue* find(std::string_view key) const;

  // A key's value, if present. Error kBadFile if it is there with another type or, for integers, does not fit [min,
  // max].
  Result<std::optional<int64_t>> integer(std::string_view key, int64_t min, int64_t max) const;
  Result<std::optional<double>> number(std::string_view key) const;  // finite, else kBadFile; integers convert
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<std::string_view>> string(std::string_view key) const;
  Result<const GgufArray*> array(std::string_view key) const;  // nullptr when absent

  // All tensors, file by file, in directory order.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

  // Error kIo once any of the files was found to have shrunk (MappedFile::damaged).
  Result<void> check_intact() const;

 private:
  std::vector<MappedFile> files_;
  uint32_t version_ = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufType> metadata_types_;
  std::map<std::string, size_t, std::less<>> metadata_index_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace spate
