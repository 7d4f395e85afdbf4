// Models split over several files: which part a file is, and what the others are called.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "gguf/gguf_part.h"

namespace spate {

// The keys split.no, split.count and split.tensors.count, as gguf-split writes them into every part.
struct SplitInfo {
  int index = 0;  // split.no, from 0
  int count = 1;
  int64_t n_tensors = 0;  // of all parts together
};

// Nothing where the file is a whole model. Error kBadFile: keys missing or out of range.
Result<std::optional<SplitInfo>> read_split_info(const GgufPart& part);

// "model" of "model-00002-of-00005.gguf", folders included, if path ends like that for exactly this part.
std::optional<std::string> split_prefix(std::string_view path, const SplitInfo& info);

// "model-00002-of-00005.gguf" for index 1 of 5.
std::string split_path(std::string_view prefix, int index, int count);

// All parts of the model that `named` belongs to, in order; `named` alone where it is a whole model. Error kIo: a part
// is missing; kBadFile: parts that do not belong together.
Result<std::vector<GgufPart>> read_all_parts(GgufPart named);

}  // namespace spate
