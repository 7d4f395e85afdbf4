#include "gguf/gguf_cursor.h"

namespace spate {

Result<std::string_view> GgufCursor::take_string(std::string_view what) {
  const uint64_t start = offset_;
  SPATE_TRY(const uint64_t n_bytes, take<uint64_t>(what));
  if (n_bytes > remaining())
    return bad(start, fmt::format("{} claims {} bytes, but {} follow it in the file; the file is damaged or incomplete",
                                  what, n_bytes, remaining()));
  const std::string_view text(reinterpret_cast<const char*>(here()), n_bytes);
  offset_ += n_bytes;
  return text;
}

Result<void> GgufCursor::skip(uint64_t n_bytes, std::string_view what) {
  if (n_bytes > remaining()) return ends_inside(what);
  offset_ += n_bytes;
  return {};
}

Error GgufCursor::bad(uint64_t offset, std::string_view what) const {
  return Error::bad_file(file_.path(), fmt::format("{}: {} (at byte {})", subject_, what, offset));
}

Error GgufCursor::ends_inside(std::string_view what) const {
  return bad(offset_, fmt::format("the file ends inside {}; it is incomplete, fetch it again", what));
}

}  // namespace spate
