#include "model/model_spec.h"

#include <array>

#include "model/metadata_reader.h"

namespace spate {

namespace {

struct Architecture {
  std::string_view name;
  Result<ModelSpec> (*read)(MetadataReader&);
};

constexpr Architecture kArchitectures[] = {
#define SPATE_ARCHITECTURE(name, reader) {name, reader},
#include "model/architectures.def"
};

}  // namespace

Result<ModelSpec> read_model_spec(const GgufFile& file) {
  SPATE_TRY(const auto name, file.string("general.architecture"));
  if (!name) return Error::bad_file(file.path(), "key 'general.architecture' is missing");
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
    if (architecture.name != *name) continue;
    MetadataReader reader(file, std::string(*name));
    return architecture.read(reader);
  }
  return Error::unsupported(fmt::format("{}: architecture '{}'; spate runs: {}", file.path(), *name, known));
}

}  // namespace spate
