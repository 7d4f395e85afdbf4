#include "gguf/gguf_split.h"

namespace spate {

namespace {

constexpr int kMaxParts = 65535;  // split.count is a u16

std::string split_suffix(int index, int count) {
  return fmt::format("-{:05}-of-{:05}.gguf", index + 1, count);
}

Result<std::optional<int64_t>> integer(const GgufPart& part, std::string_view key, int64_t min, int64_t max) {
  return integer_in_range(part.file.path(), key, part.metadata.find(key), min, max);
}

Error missing(const GgufPart& part, std::string_view key) {
  return Error::bad_file(part.file.path(), fmt::format("key '{}' is missing from a part of a split model", key));
}

Result<GgufPart> read_sibling(const std::string& path, const SplitInfo& expected) {
  Result<GgufPart> part = read_gguf_part(path);
  if (!part) {
    const Error& error = part.error();
    if (error.code != ErrorCode::kIo) return error;
    return Error{error.code, fmt::format("{} (part {} of the {} of a split model; all must be in one folder)",
                                         error.message, expected.index + 1, expected.count)};
  }
  SPATE_TRY(const std::optional<SplitInfo> info, read_split_info(*part));
  if (!info)
    return Error::bad_file(
        path,
        fmt::format("is a whole model, not part {} of a split one; key 'split.count' is missing", expected.index + 1));
  if (info->count != expected.count)
    return Error::bad_file(path, fmt::format("key 'split.count' is {}, but {} in the part that was opened first",
                                             info->count, expected.count));
  if (info->index != expected.index)
    return Error::bad_file(path, fmt::format("key 'split.no' is {}, but the file's name says part {}, which is {}",
                                             info->index, expected.index + 1, expected.index));
  if (info->n_tensors != expected.n_tensors)
    return Error::bad_file(
        path, fmt::format("key 'split.tensors.count' is {}, but {} in the part that was opened first", info->n_tensors,
                          expected.n_tensors));
  return part;
}

}  // namespace

Result<std::optional<SplitInfo>> read_split_info(const GgufPart& part) {
  SPATE_TRY(const std::optional<int64_t> count, integer(part, "split.count", 0, kMaxParts));
  if (!count || *count <= 1) return std::optional<SplitInfo>();
  SPATE_TRY(const std::optional<int64_t> index, integer(part, "split.no", 0, *count - 1));
  if (!index) return missing(part, "split.no");
  const int64_t max_tensors = *count * static_cast<int64_t>(kMaxTensors);
  SPATE_TRY(const std::optional<int64_t> n_tensors, integer(part, "split.tensors.count", 0, max_tensors));
  if (!n_tensors) return missing(part, "split.tensors.count");
  return std::optional(
      SplitInfo{.index = static_cast<int>(*index), .count = static_cast<int>(*count), .n_tensors = *n_tensors});
}

std::optional<std::string> split_prefix(std::string_view path, const SplitInfo& info) {
  const std::string suffix = split_suffix(info.index, info.count);
  if (!path.ends_with(suffix)) return std::nullopt;
  return std::string(path.substr(0, path.size() - suffix.size()));
}

std::string split_path(std::string_view prefix, int index, int count) {
  return std::string(prefix) + split_suffix(index, count);
}

Result<std::vector<GgufPart>> read_all_parts(GgufPart named) {
  std::vector<GgufPart> parts;
  SPATE_TRY(const std::optional<SplitInfo> info, read_split_info(named));
  if (!info) {
    parts.push_back(std::move(named));
    return parts;
  }
  const std::string path = named.file.path();
  const std::optional<std::string> prefix = split_prefix(path, *info);
  if (!prefix)
    return Error::bad_file(
        path, fmt::format("is part {} of a model split into {} (key 'split.no' is {}), so its name "
                          "must end in '{}' for the other parts to be found",
                          info->index + 1, info->count, info->index, split_suffix(info->index, info->count)));
  uint64_t n_tensors = 0;
  for (int i = 0; i < info->count; ++i) {
    if (i == info->index) {
      parts.push_back(std::move(named));  // NOLINT(bugprone-use-after-move): of one i alone
    } else {
      SplitInfo expected = *info;
      expected.index = i;
      SPATE_TRY(GgufPart part, read_sibling(split_path(*prefix, i, info->count), expected));
      parts.push_back(std::move(part));
    }
    n_tensors += parts.back().tensors.size();
  }
  if (n_tensors != static_cast<uint64_t>(info->n_tensors))
    return Error::bad_file(path, fmt::format("key 'split.tensors.count' is {}, but the {} parts hold {} tensors",
                                             info->n_tensors, info->count, n_tensors));
  return parts;
}

}  // namespace spate
